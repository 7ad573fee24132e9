"""Pillow's antialiased bilinear resizing as a graph, bit for bit: `images.resizing.resize` for images of any size.

Each of the two passes is a weighted sum along one axis. Pillow computes the weights in double precision, rounds them to
multiples of 2^-22, sums in integers and rounds to gray levels; so does this module. The graph computes the weights,
since the input size is known only there. They are banded: each output pixel depends on a few consecutive input pixels.
These are added one at a time, so that memory holds no more than one result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cutpaste_tf.backend import tf
from cutpaste_tf.detection.graphs.variables import keep
from cutpaste_tf.settings.sizes import Size

_BITS = 22  # Pillow's PRECISION_BITS for 8-bit images


class Resizer:
    """Resizes to one size.

    Args:
        size: (height, width) of the result.
    """

    def __init__(self, size: Size):
        self._size = size
        # Variables, since TensorFlow would replace division by a constant with multiplication by its reciprocal, which
        # changes the last bit.
        self._divisors = [
            keep(float(side), name, tf.float64) for side, name in zip(size, ("height", "width"), strict=True)
        ]

    def __call__(self, images: Any) -> Any:
        """Images uint8 [count, height, width, channels] as uint8 [count, *size, channels]."""
        shape = tf.shape(images)
        narrowed = self._pass(images, shape[2], axis=2)
        result = self._pass(narrowed, shape[1], axis=1)
        return tf.ensure_shape(result, [None, *self._size, images.shape[-1]])

    def _pass(self, images: Any, size: Any, *, axis: int) -> Any:
        side = self._size[axis - 1]
        first, weights = band(size, side, self._divisors[axis - 1])
        weights = tf.cast(weights * 2**_BITS + 0.5, tf.int32)
        shape = tf.tensor_scatter_nd_update(tf.shape(images), [[axis]], [side])
        broadcast = [1] * 4
        broadcast[axis] = side

        def add(offset: Any, total: Any) -> tuple[Any, Any]:
            place = tf.minimum(first + offset, size - 1)  # weights are 0 beyond the border
            pixels = tf.cast(tf.gather(images, place, axis=axis), tf.int32)
            return offset + 1, total + pixels * tf.reshape(weights[:, offset], broadcast)

        start = tf.fill(shape, 1 << (_BITS - 1))  # a half, for rounding
        _, total = tf.while_loop(lambda offset, _: offset < tf.shape(weights)[1], add, (tf.constant(0), start))
        return tf.cast(tf.bitwise.right_shift(total, _BITS), tf.uint8)


def band(size: Any, side: int, divisor: Any) -> tuple[Any, Any]:
    """The input pixels and weights that make each output pixel along an axis.

    Args:
        size: length of the axis, int32.
        side: length of the resized axis.
        divisor: `side` as float64.

    Returns:
        int32 [side], the first input pixel; and float64 [side, number], the weights of the pixels from there on.
    """
    length = tf.cast(size, tf.float64)
    scale = length / divisor
    reach = tf.maximum(scale, 1.0)
    center = (tf.range(side, dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(center - reach + 0.5, tf.int32), 0)
    end = tf.minimum(tf.cast(center + reach + 0.5, tf.int32), size)
    places = first[:, None] + tf.range(2 * tf.cast(tf.math.ceil(reach), tf.int32) + 1)
    distance = tf.abs((tf.cast(places, tf.float64) - center[:, None] + 0.5) * (1.0 / reach))
    weights = tf.where(places < end[:, None], tf.maximum(1.0 - distance, 0.0), 0.0)
    # cumsum adds from the left, as Pillow does; a reduction may add in another order.
    return first, weights / tf.cumsum(weights, axis=1)[:, -1:]


def matrix(size: int, side: int) -> np.ndarray:
    """The same weights as a matrix float64 [side, size], for float maps; Pillow does not round weights for these."""
    first, weights = (tensor.numpy() for tensor in band(tf.constant(size), side, tf.constant(float(side), tf.float64)))
    result = np.zeros((side, size))
    for row, (start, values) in enumerate(zip(first, weights, strict=True)):
        count = min(len(values), size - start)
        result[row, start : start + count] = values[:count]
    return result
