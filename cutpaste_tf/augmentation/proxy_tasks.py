"""The classification tasks that train the representation (Sections 2.1, 2.2, 4.1 and 5).

A task is a pure function (image, seed, settings, size) -> (views, labels) in graph mode. The image is uint8
[height + 2 * margin, width + 2 * margin, 3] for the size (height, width), with the reflected border that `pipeline.pad`
adds for the translation. Views are float32 [classes, *view_size, 3] in [0, 1], or uint8 with `uint8_views`; labels are
int32 [classes]. CutSwap's images have a fourth channel with `saliency.mark`'s bits, which follows the translation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cutpaste_tf.augmentation import color, patches
from cutpaste_tf.backend import tf
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.augmentation import AugmentationSettings
from cutpaste_tf.settings.sizes import Size

SALIENCY_LEVELS = 4  # number of saliency maps that CutSwap draws from: the bits of its images' fourth channel


# (image, seed, settings, size) -> (views, labels)
Augment: TypeAlias = "Callable[[tf.Tensor, tf.Tensor, AugmentationSettings, Size], tuple[tf.Tensor, tf.Tensor]]"
# (view, seed, settings) -> view
Augmentation: TypeAlias = "Callable[[tf.Tensor, tf.Tensor, AugmentationSettings], tf.Tensor]"


def base_augment(image: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings, size: Size) -> tf.Tensor:
    """Random translation and color jitter of an image (A.1), before any task's own augmentation.

    A patch model jitters a random crop, c(x) in Eq. 3, and contrast changes around the crop's mean gray. Jittering the
    whole image first would waste work on pixels that are then cropped away.

    Returns:
        float32 [*view_size, channels]: RGB in [0, 1], then any other channels, unchanged.
    """
    translation_seed, jitter_seed = tf.unstack(tf.random.split(seed, 2))
    channels = int(image.shape[2])  # pyright: ignore[reportArgumentType]
    corner, view_size = _random_corner(tuple(image.shape), size, translation_seed), size  # pyright: ignore[reportArgumentType]
    if settings.patch_size:
        view_size = sizes.of(settings.patch_size)
        corner += _random_corner(size, view_size, tf.random.fold_in(seed, 2))  # pyright: ignore[reportArgumentType]
    image = tf.slice(image, [corner[0], corner[1], 0], [*view_size, channels])
    pixels = image if channels == 3 else image[:, :, :3]
    if settings.base_jitter:
        view = color.apply_jitter(pixels, color.sample_jitter(jitter_seed, settings.base_jitter))
    else:
        view = color.to_float(pixels)
    if channels > 3:
        view = tf.concat([view, tf.cast(image[:, :, 3:], tf.float32)], axis=-1)
    return view


def _random_corner(within: tuple[int, ...], size: Size, seed: tf.Tensor) -> tf.Tensor:
    """Top and left, int32 [2], of a uniformly random crop of one size within another."""
    rows, columns = (within[axis] - size[axis] + 1 for axis in (0, 1))
    corner = tf.random.stateless_uniform([2], seed, maxval=rows, dtype=tf.int32)
    if rows == columns:
        return corner
    across = tf.random.stateless_uniform([2], seed, maxval=columns, dtype=tf.int32)
    return tf.stack([corner[0], across[1]])


def _base_views(
    image: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings, size: Size, *, count: int
) -> list[tf.Tensor]:
    """A base-augmented copy of the image for each view, drawn independently unless the views share it."""
    if settings.share_base_augmentation:
        return [base_augment(image, seed, settings, size)] * count
    return [base_augment(image, view_seed, settings, size) for view_seed in tf.unstack(tf.random.split(seed, count))]


def _stacked(views: list[tf.Tensor], settings: AugmentationSettings) -> tf.Tensor:
    """Stacks the views; rounding them in the same pass is cheaper than stacking in float32."""
    return color.to_uint8(views) if settings.uint8_views else tf.stack(views)


def rotation(
    image: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings, size: Size
) -> tuple[tf.Tensor, tf.Tensor]:
    """Four rotations by counterclockwise quarter turns as four classes (baseline of Table 1)."""
    views = _base_views(image, seed, settings, size, count=4)
    return _stacked([tf.image.rot90(view, turns) for turns, view in enumerate(views)], settings), tf.range(4)


def against_normal(*augmentations: Augmentation) -> Augment:
    """The task of distinguishing normal images and each augmentation, one class each."""

    def augment_all(
        image: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings, size: Size
    ) -> tuple[tf.Tensor, tf.Tensor]:
        classes = 1 + len(augmentations)
        base_seed, *seeds = tf.unstack(tf.random.split(seed, classes))
        normal, *rest = _base_views(image, base_seed, settings, size, count=classes)
        views = [augment(view, seed, settings) for augment, view, seed in zip(augmentations, rest, seeds, strict=True)]
        return _stacked([normal[:, :, :3], *views], settings), tf.range(classes)

    return augment_all


def cutpaste(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    """CutPaste (Section 2.1) of a view float32 [height, width, 3] in [0, 1]."""
    return patches.paste_cutpaste(view, patches.sample_cutpaste(seed, _size(view), settings))


def cutpaste_scar(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    """CutPaste-Scar (Section 2.2) of a view float32 [height, width, 3] in [0, 1]."""
    return patches.paste_scar(view, patches.sample_scar(seed, _size(view), settings))


def _cutpaste_or_scar(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    """One of the two augmentations, chosen by a fair coin (Section 5.2)."""
    coin_seed, patch_seed = tf.unstack(tf.random.split(seed, 2))
    return tf.cond(
        tf.random.stateless_uniform([], coin_seed) < 0.5,
        lambda: cutpaste(view, patch_seed, settings),
        lambda: cutpaste_scar(view, patch_seed, settings),
    )


# Section 5.1 says how Cutout's box is filled, but not how it is drawn. Here it is drawn as for CutPaste, so that only
# the content differs between the columns of Table 4.
def _cutout(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    return patches.paste_color(view, patches.sample_cutpaste(seed, _size(view), settings), tf.fill([3], 0.5))


def _cutout_mean(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    patch = patches.sample_cutpaste(seed, _size(view), settings)
    return patches.paste_color(view, patch, tf.reduce_mean(view, axis=[0, 1]))


def _cutout_color(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    patch_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
    patch = patches.sample_cutpaste(patch_seed, _size(view), settings)
    return patches.paste_color(view, patch, tf.random.stateless_uniform([3], color_seed))


def _color_scar(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    patch_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
    patch = patches.sample_scar(patch_seed, _size(view), settings)
    return patches.paste_color_scar(view, patch, tf.random.stateless_uniform([3], color_seed))


def _confetti(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    """Confetti noise, "that jitters a color of a local patch" (Section 5.1).

    Its source, FCDD (Liznerski et al., ICLR 2021), adds rectangles of one random color to the image and clips. Here it
    is one rectangle, drawn as for Cutout, with a color from U(-1, 1) per channel.
    """
    patch_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
    patch = patches.sample_cutpaste(patch_seed, _size(view), settings)
    return patches.paste_shift(view, patch, tf.random.stateless_uniform([3], color_seed, -1.0, 1.0))


def _cutswap(view: tf.Tensor, seed: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    """Swaps two patches around pixels in the most salient cluster of one saliency map (CutSwap).

    The abstract does not say which map a view uses; here it is a random one.
    """
    level_seed, patch_seed = tf.unstack(tf.random.split(seed, 2))
    level = tf.random.stateless_uniform([], level_seed, maxval=SALIENCY_LEVELS, dtype=tf.int32)
    bits = tf.cast(view[:, :, 3], tf.int32)
    salient = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, level), 1) == 1
    return patches.paste_swap(view[:, :, :3], patches.sample_swap(patch_seed, salient, settings))


def _size(view: tf.Tensor) -> tuple[int, int]:
    return int(view.shape[0]), int(view.shape[1])  # pyright: ignore[reportArgumentType]


# The views' names are in `settings.augmentation.VIEWS`.
TASKS: dict[str, Augment] = {
    "cutpaste_3way": against_normal(cutpaste, cutpaste_scar),
    "cutpaste": against_normal(cutpaste),
    "cutpaste_scar": against_normal(cutpaste_scar),
    "cutpaste_union": against_normal(_cutpaste_or_scar),
    "rotation": rotation,
    "cutout": against_normal(_cutout),
    "cutout_mean": against_normal(_cutout_mean),
    "cutout_color": against_normal(_cutout_color),
    "scar": against_normal(_color_scar),
    "confetti": against_normal(_confetti),
    "cutswap": against_normal(_cutswap),
}
