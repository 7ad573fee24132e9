"""The classification tasks that learn the representation (Sections 2.1 and 2.2).

A task is a pure function (image, seed, config) -> (views, labels) in graph mode. The image is uint8
[side + 2 * margin, side + 2 * margin, 3], with the reflected border that `pipeline.pad` adds for
the translation; views are float32 [classes, side, side, 3] in [0, 1], labels int32 [classes].
"""

from collections.abc import Callable

import tensorflow as tf

from cutpaste_tf import color, patches
from cutpaste_tf.config import Config

Task = Callable[[tf.Tensor, tf.Tensor, Config], tuple[tf.Tensor, tf.Tensor]]


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


def cutpaste_3way(image: tf.Tensor, seed: tf.Tensor, config: Config) -> tuple[tf.Tensor, tf.Tensor]:
    """Normal, CutPaste and CutPaste-Scar as three classes (Section 2.2)."""
    base_seed, patch_seed, scar_seed = tf.unstack(tf.random.split(seed, 3))
    normal, cut, scarred = _base_views(image, base_seed, config)
    size = (config.image_size, config.image_size)
    cut = patches.paste_cutpaste(cut, patches.sample_cutpaste(patch_seed, size, config))
    scarred = patches.paste_scar(scarred, patches.sample_scar(scar_seed, size, config))
    return tf.stack([normal, cut, scarred]), tf.range(3)


# The keys and the number of views are those of `config.VIEWS`.
TASKS: dict[str, Task] = {"cutpaste_3way": cutpaste_3way}
