"""The classification tasks that learn the representation (Sections 2.1, 2.2, 4.1 and 5).

A task is a pure function (image, seed, config) -> (views, labels) in graph mode. The image is uint8
[side + 2 * margin, side + 2 * margin, 3], with the reflected border that `pipeline.pad` adds for
the translation; views are float32 [classes, side, side, 3] in [0, 1], labels int32 [classes].
"""

from collections.abc import Callable

import tensorflow as tf

from cutpaste_tf import color, patches
from cutpaste_tf.config import Config

Task = Callable[[tf.Tensor, tf.Tensor, Config], tuple[tf.Tensor, tf.Tensor]]
Augmentation = Callable[[tf.Tensor, tf.Tensor, Config], tf.Tensor]  # (view, seed, config) -> view


def base_augment(image: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Random translation and color jitter of a whole image (A.1), before any task's own augmentation."""
    crop_seed, jitter_seed = tf.unstack(tf.random.split(seed, 2))
    size = config.image_size
    room = int(image.shape[0]) - size
    offset = tf.random.stateless_uniform([2], crop_seed, maxval=room + 1, dtype=tf.int32)
    image = tf.slice(image, [offset[0], offset[1], 0], [size, size, 3])
    if not config.base_jitter:
        return color.to_float(image)
    return color.apply_jitter(image, color.sample_jitter(jitter_seed, config.base_jitter))


def _base_views(image: tf.Tensor, seed: tf.Tensor, config: Config) -> list[tf.Tensor]:
    """One base-augmented copy of the image for each view, drawn independently unless they share it."""
    if config.share_base_augmentation:
        return [base_augment(image, seed, config)] * len(config.views)
    return [base_augment(image, one, config) for one in tf.unstack(tf.random.split(seed, len(config.views)))]


def rotation(image: tf.Tensor, seed: tf.Tensor, config: Config) -> tuple[tf.Tensor, tf.Tensor]:
    """Four rotations by quarter turns, counter-clockwise, as four classes (baseline of Table 1)."""
    views = _base_views(image, seed, config)
    return tf.stack([tf.image.rot90(view, turns) for turns, view in enumerate(views)]), tf.range(4)


def _against_normal(*augmentations: Augmentation) -> Task:
    """The task that tells normal images and each augmentation apart: one class for each."""

    def task(image: tf.Tensor, seed: tf.Tensor, config: Config) -> tuple[tf.Tensor, tf.Tensor]:
        base_seed, *seeds = tf.unstack(tf.random.split(seed, 1 + len(augmentations)))
        normal, *rest = _base_views(image, base_seed, config)
        augmented = [augment(view, one, config) for augment, view, one in zip(augmentations, rest, seeds, strict=True)]
        return tf.stack([normal, *augmented]), tf.range(1 + len(augmentations))

    return task


def _cutpaste(view: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    return patches.paste_cutpaste(view, patches.sample_cutpaste(seed, _size(config), config))


def _cutpaste_scar(view: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    return patches.paste_scar(view, patches.sample_scar(seed, _size(config), config))


def _cutpaste_or_scar(view: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Either of the two, by a fair coin (Section 5.2)."""
    coin_seed, patch_seed = tf.unstack(tf.random.split(seed, 2))
    return tf.cond(
        tf.random.stateless_uniform([], coin_seed) < 0.5,
        lambda: _cutpaste(view, patch_seed, config),
        lambda: _cutpaste_scar(view, patch_seed, config),
    )


# Section 5.1 says how Cutout's box is filled, not how it is drawn: as CutPaste's, so that only the
# content differs between the columns of Table 4.
def _cutout(view: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    return patches.paste_color(view, patches.sample_cutpaste(seed, _size(config), config), tf.fill([3], 0.5))


def _cutout_mean(view: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    patch = patches.sample_cutpaste(seed, _size(config), config)
    return patches.paste_color(view, patch, tf.reduce_mean(view, axis=[0, 1]))


def _cutout_color(view: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    patch_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
    patch = patches.sample_cutpaste(patch_seed, _size(config), config)
    return patches.paste_color(view, patch, tf.random.stateless_uniform([3], color_seed))


def _color_scar(view: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    patch_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
    patch = patches.sample_scar(patch_seed, _size(config), config)
    return patches.paste_color_scar(view, patch, tf.random.stateless_uniform([3], color_seed))


def _size(config: Config) -> tuple[int, int]:
    return config.image_size, config.image_size


# The keys and the number of views are those of `config.VIEWS`.
TASKS: dict[str, Task] = {
    "cutpaste_3way": _against_normal(_cutpaste, _cutpaste_scar),
    "cutpaste": _against_normal(_cutpaste),
    "cutpaste_scar": _against_normal(_cutpaste_scar),
    "cutpaste_union": _against_normal(_cutpaste_or_scar),
    "rotation": rotation,
    "cutout": _against_normal(_cutout),
    "cutout_mean": _against_normal(_cutout_mean),
    "cutout_color": _against_normal(_cutout_color),
    "scar": _against_normal(_color_scar),
}
