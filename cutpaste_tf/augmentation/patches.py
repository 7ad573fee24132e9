"""Draw a patch, paste a patch: CutPaste and CutPaste-Scar (Sections 2.1, 2.2, Appendix A.2).

Images are float32 [height, width, 3], RGB in [0, 1]. Each kind of patch has a `sample_*` function that draws a
NamedTuple from a seed (int32 [2]), and a `paste_*` function without randomness. Positions are (top, left) of boxes in
pixels; every box is entirely inside the image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cutpaste_tf.augmentation import color, rotation
from cutpaste_tf.backend import tf
from cutpaste_tf.settings.augmentation import AugmentationSettings

_TRIES = 10  # as many attempts at a patch that fits as torchvision's RandomErasing makes, which A.2 follows


class CutPastePatch(NamedTuple):
    """A rectangle to cut out and paste elsewhere; all int32 scalars, in pixels."""

    height: tf.Tensor
    width: tf.Tensor
    source_top: tf.Tensor
    source_left: tf.Tensor
    top: tf.Tensor
    left: tf.Tensor
    jitter: color.Jitter | None


class ScarPatch(NamedTuple):
    """A thin rectangle to cut out, rotate and paste elsewhere.

    Attributes:
        height, width: int32, the rectangle's length and width before rotation.
        source_top, source_left: int32, where it is cut out.
        angle: float32, rotation in radians, counterclockwise as seen.
        box_height, box_width: int32, the bounding box after rotation.
        top, left: int32, where that box is pasted.
        jitter: the color jitter's draw; None if it is turned off.
    """

    height: tf.Tensor
    width: tf.Tensor
    source_top: tf.Tensor
    source_left: tf.Tensor
    angle: tf.Tensor
    box_height: tf.Tensor
    box_width: tf.Tensor
    top: tf.Tensor
    left: tf.Tensor
    jitter: color.Jitter | None


class SwapPatches(NamedTuple):
    """Two rectangles of one size to swap; all int32 scalars, in pixels."""

    height: tf.Tensor
    width: tf.Tensor
    first_top: tf.Tensor
    first_left: tf.Tensor
    second_top: tf.Tensor
    second_left: tf.Tensor


def sample_cutpaste(seed: tf.Tensor, size: tuple[int, int], settings: AugmentationSettings) -> CutPastePatch:
    """Draws area, aspect ratio and the two positions of a CutPaste patch on an image of `size` (A.2)."""
    geometry_seed, jitter_seed = tf.unstack(tf.random.split(seed, 2))
    uniform = tf.random.stateless_uniform([3 * _TRIES + 4], geometry_seed)
    height, width = _sample_rectangle(tf.reshape(uniform[4:], [3, _TRIES]), size, settings)
    source_top, source_left = _place(uniform[:2], height, width, size)
    top, left = _place(uniform[2:4], height, width, size)
    jitter = color.sample_jitter(jitter_seed, settings.patch_jitter) if settings.patch_jitter else None
    return CutPastePatch(height, width, source_top, source_left, top, left, jitter)


def paste_cutpaste(image: tf.Tensor, patch: CutPastePatch) -> tf.Tensor:
    """Returns the image with its patch, color-jittered, pasted at (top, left)."""
    cut = _crop(image, patch.source_top, patch.source_left, patch.height, patch.width)
    return _replace(image, _jittered(cut, patch.jitter), patch.top, patch.left)


def paste_color(image: tf.Tensor, patch: CutPastePatch, fill: tf.Tensor) -> tf.Tensor:
    """Returns the image with the patch's box at (top, left) filled with one color, float32 [3] (Cutout, Table 4)."""
    return _replace(image, _plain(fill, patch.height, patch.width), patch.top, patch.left)


def paste_shift(image: tf.Tensor, patch: CutPastePatch, shift: tf.Tensor) -> tf.Tensor:
    """Returns the image with one color, float32 [3] in [-1, 1], added to the box at (top, left) (Confetti)."""
    below = _crop(image, patch.top, patch.left, patch.height, patch.width)
    return _replace(image, tf.clip_by_value(below + shift, 0.0, 1.0), patch.top, patch.left)


def sample_scar(seed: tf.Tensor, size: tuple[int, int], settings: AugmentationSettings) -> ScarPatch:
    """Draws width, length, rotation and the two positions of a scar on an image of `size` (A.2)."""
    geometry_seed, jitter_seed = tf.unstack(tf.random.split(seed, 2))
    uniform = tf.random.stateless_uniform([7], geometry_seed)
    width = _uniform_integer(uniform[0], settings.scar_min_width, settings.scar_max_width)
    height = _uniform_integer(uniform[1], settings.scar_min_length, settings.scar_max_length)
    angle = (2.0 * uniform[2] - 1.0) * (settings.scar_rotation * math.pi / 180.0)
    source_top, source_left = _place(uniform[3:5], height, width, size)
    box_height, box_width = rotation.rotated_box(height, width, angle)
    top, left = _place(uniform[5:7], box_height, box_width, size)
    jitter = color.sample_jitter(jitter_seed, settings.patch_jitter) if settings.patch_jitter else None
    return ScarPatch(height, width, source_top, source_left, angle, box_height, box_width, top, left, jitter)


def paste_scar(image: tf.Tensor, patch: ScarPatch) -> tf.Tensor:
    """Returns the image with its patch, color-jittered and rotated, pasted at (top, left).

    An alpha mask keeps the image in the corners of the rotated patch's box and antialiases the patch's edge.
    """
    cut = _crop(image, patch.source_top, patch.source_left, patch.height, patch.width)
    return _paste_rotated(image, _jittered(cut, patch.jitter), patch)


def paste_color_scar(image: tf.Tensor, patch: ScarPatch, fill: tf.Tensor) -> tf.Tensor:
    """Returns the image with a rotated scar of one color, float32 [3], at (top, left) (Scar, Section 2.2)."""
    return _paste_rotated(image, _plain(fill, patch.height, patch.width), patch)


def sample_swap(seed: tf.Tensor, salient: tf.Tensor, settings: AugmentationSettings) -> SwapPatches:
    """Draws two boxes of one size around two salient pixels (CutSwap).

    Args:
        seed: int32 [2].
        salient: bool [height, width]; if all are False, every pixel counts as salient.
        settings: settings for the size, which is drawn as for CutPaste.
    """
    size = (int(salient.shape[0]), int(salient.shape[1]))  # pyright: ignore[reportArgumentType]
    uniform = tf.random.stateless_uniform([3 * _TRIES + 2], seed)
    height, width = _sample_rectangle(tf.reshape(uniform[2:], [3, _TRIES]), size, settings)
    pixels = tf.cast(tf.where(salient | ~tf.reduce_any(salient)), tf.int32)
    corners = pixels - tf.stack([height, width]) // 2
    corners = tf.clip_by_value(corners, 0, tf.stack([size[0] - height, size[1] - width]))
    first = corners[_uniform_integer(uniform[0], 0, tf.shape(corners)[0] - 1)]
    distance = tf.abs(corners - first)
    apart = (distance[:, 0] >= height) | (distance[:, 1] >= width)  # the boxes do not overlap
    others = tf.boolean_mask(corners, apart | ~tf.reduce_any(apart))
    second = others[_uniform_integer(uniform[1], 0, tf.shape(others)[0] - 1)]
    return SwapPatches(height, width, first[0], first[1], second[0], second[1])


def paste_swap(image: tf.Tensor, patch: SwapPatches) -> tf.Tensor:
    """Returns the image with the contents of the two boxes swapped; where they overlap, the first box wins."""
    first = _crop(image, patch.first_top, patch.first_left, patch.height, patch.width)
    second = _crop(image, patch.second_top, patch.second_left, patch.height, patch.width)
    image = _replace(image, first, patch.second_top, patch.second_left)
    return _replace(image, second, patch.first_top, patch.first_left)


def _sample_rectangle(
    uniform: tf.Tensor, size: tuple[int, int], settings: AugmentationSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of a CutPaste patch: the first draw that fits, or the last one, clipped, if none fits."""
    low, high = settings.min_aspect_ratio, settings.max_aspect_ratio
    area = (
        size[0] * size[1] * (settings.min_patch_area + uniform[0] * (settings.max_patch_area - settings.min_patch_area))
    )
    if settings.aspect_sampling == "union":  # a fair coin chooses (low, 1) or (1, high)
        aspect = tf.where(uniform[2] < 0.5, low + uniform[1] * (1.0 - low), 1.0 + uniform[1] * (high - 1.0))
    elif settings.aspect_sampling == "uniform":
        aspect = low + uniform[1] * (high - low)
    else:
        aspect = tf.exp(math.log(low) + uniform[1] * (math.log(high) - math.log(low)))
    height = tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32)
    width = tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32)
    fits = (height >= 1) & (width >= 1) & (height <= size[0]) & (width <= size[1])
    chosen = tf.where(tf.reduce_any(fits), tf.argmax(fits, output_type=tf.int32), _TRIES - 1)
    return tf.clip_by_value(height[chosen], 1, size[0]), tf.clip_by_value(width[chosen], 1, size[1])


def _place(
    uniform: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Uniform (top, left) of a box inside the image."""
    return _uniform_integer(uniform[0], 0, size[0] - height), _uniform_integer(uniform[1], 0, size[1] - width)


def _uniform_integer(uniform: tf.Tensor, low: int, high: int | tf.Tensor) -> tf.Tensor:
    """Maps U[0, 1) to the integers low..high, inclusive."""
    count = tf.cast(high - low + 1, tf.float32)
    # uniform * count can round up to count itself, hence the minimum.
    return low + tf.minimum(tf.cast(uniform * count, tf.int32), high - low)


def _plain(fill: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.broadcast_to(fill, [height, width, 3]), [None, None, 3])


def _paste_rotated(image: tf.Tensor, content: tf.Tensor, patch: ScarPatch) -> tf.Tensor:
    pixels, alpha = rotation.rotate(content, patch.angle, patch.box_height, patch.box_width)
    below = _crop(image, patch.top, patch.left, patch.box_height, patch.box_width)
    return _replace(image, below + alpha * (pixels - below), patch.top, patch.left)


def _jittered(patch: tf.Tensor, jitter: color.Jitter | None) -> tf.Tensor:
    return patch if jitter is None else color.apply_jitter(patch, jitter)


def _crop(image: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.slice(image, [top, left, 0], [height, width, 3]), [None, None, 3])


def _replace(image: tf.Tensor, patch: tf.Tensor, top: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """Returns the image with the box at (top, left) replaced by the patch."""
    bottom, right = top + tf.shape(patch)[0], left + tf.shape(patch)[1]
    middle = tf.concat([image[top:bottom, :left], patch, image[top:bottom, right:]], axis=1)
    return tf.ensure_shape(tf.concat([image[:top], middle, image[bottom:]], axis=0), image.shape)
