"""Color jitter with torchvision's `ColorJitter` semantics, as in Appendix A.2 of the paper.

Images here are float32 [height, width, 3], RGB in [0, 1]; every operation clips to [0, 1].
Internally, the channels are planes, [3, height, width], which is three times faster on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from cutpaste_tf.backend import tf

# ITU-R 601-2 luma, with the digits that torchvision's rgb_to_grayscale uses.
LUMA = (0.2989, 0.587, 0.114)


class Jitter(NamedTuple):
    """One draw of the color jitter.

    Attributes:
        brightness, contrast, saturation: float32 factors; 1 changes nothing.
        hue: float32 shift in turns of the color circle, in [-0.5, 0.5].
        order: int32 [4], a permutation: the operations (0 brightness, 1 contrast, 2 saturation, 3 hue) in the order
            they are applied.
    """

    brightness: tf.Tensor
    contrast: tf.Tensor
    saturation: tf.Tensor
    hue: tf.Tensor
    order: tf.Tensor


def sample_jitter(seed: tf.Tensor, intensity: float) -> Jitter:
    """Draws factors from U(1 - intensity, 1 + intensity), a hue from U(-intensity, intensity), and an order."""
    uniform = tf.random.stateless_uniform([8], seed)
    factors = tf.maximum(0.0, 1.0 + intensity * (2.0 * uniform[:3] - 1.0))
    hue = intensity * (2.0 * uniform[3] - 1.0)
    return Jitter(factors[0], factors[1], factors[2], hue, tf.argsort(uniform[4:]))


def apply_jitter(image: tf.Tensor, jitter: Jitter) -> tf.Tensor:
    """Applies a draw to an image (Appendix A.2).

    Args:
        image: uint8 [height, width, 3], or float32 with that shape in [0, 1].
        jitter: the draw.

    Returns:
        float32 [height, width, 3] in [0, 1].
    """
    return _traced()(image, jitter)


@functools.cache
def _traced() -> Any:
    """`_apply`, traced once for all views of an image."""
    return tf.function(_apply)


def _apply(image: tf.Tensor, jitter: Jitter) -> tf.Tensor:
    # Compiling needs a static shape. Whole images have one; patches do not, but they are small.
    fixed = image.shape.is_fully_defined()
    run = _compiled if fixed else lambda function: function
    planes = run(_to_planes)(image)
    for step in range(4):
        planes = tf.switch_case(
            jitter.order[step],
            [
                lambda x=planes: run(_brightness)(x, jitter.brightness),
                lambda x=planes: run(_contrast)(x, jitter.contrast),
                lambda x=planes: run(_saturation)(x, jitter.saturation),
                lambda x=planes: run(_hue)(x, jitter.hue),
            ],
        )
        planes = tf.ensure_shape(planes, [3, *image.shape[:2]])
    return run(_from_planes)(planes)


def to_float(image: tf.Tensor) -> tf.Tensor:
    """Converts uint8 in 0..255, or float32 already in [0, 1], to float32 in [0, 1]."""
    return tf.cast(image, tf.float32) * (1 / 255) if image.dtype == tf.uint8 else image


def to_uint8(views: Sequence[tf.Tensor]) -> tf.Tensor:
    """Stacks views of one static shape, float32 in [0, 1], rounded half up to uint8; see `to_float`."""
    return _compiled(_rounded)(list(views))


def _rounded(views: list[Any]) -> tf.Tensor:
    return tf.stack([tf.cast(view * 255.0 + 0.5, tf.uint8) for view in views])


@functools.cache
def _compiled(function: Any) -> Any:
    # XLA fuses each operation into one pass over the image. There is one function per operation, not one for the whole
    # jitter: fused over a random order, XLA's recomputation would grow out of bounds.
    return tf.function(function, jit_compile=True)


def _to_planes(image: tf.Tensor) -> tf.Tensor:
    return tf.transpose(to_float(image), [2, 0, 1])


def _from_planes(planes: tf.Tensor) -> tf.Tensor:
    return tf.transpose(planes, [1, 2, 0])


def _grey(planes: tf.Tensor) -> tf.Tensor:
    return LUMA[0] * planes[0] + LUMA[1] * planes[1] + LUMA[2] * planes[2]


def _brightness(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.minimum(planes * factor, 1.0)


def _contrast(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(_grey(planes))
    return tf.clip_by_value(planes * factor + (1.0 - factor) * mean, 0.0, 1.0)


def _saturation(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(planes * factor + (1.0 - factor) * _grey(planes), 0.0, 1.0)


def _hue(planes: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Shifts the hue in HSV, keeping value and chroma.

    Working with hue times chroma avoids HSV's division and its special case for gray pixels.
    """
    red, green, blue = tf.unstack(planes)
    value = tf.maximum(tf.maximum(red, green), blue)
    low = tf.minimum(tf.minimum(red, green), blue)
    chroma = value - low
    hue = tf.where(  # in sixths of a turn, times chroma
        value == red,
        green - blue,
        tf.where(value == green, 2.0 * chroma + blue - red, 4.0 * chroma + red - green),
    )
    hue += 6.0 * turns * chroma
    hue = tf.where(hue < 0.0, hue + 6.0 * chroma, hue)
    hue = tf.where(hue >= 6.0 * chroma, hue - 6.0 * chroma, hue)
    return tf.stack(
        [
            low + tf.clip_by_value(tf.abs(hue - 3.0 * chroma) - chroma, 0.0, chroma),
            low + tf.clip_by_value(2.0 * chroma - tf.abs(hue - 2.0 * chroma), 0.0, chroma),
            low + tf.clip_by_value(2.0 * chroma - tf.abs(hue - 4.0 * chroma), 0.0, chroma),
        ]
    )
