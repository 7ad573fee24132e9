"""Multiply-adds of a network's convolutions, counted from the shapes of their outputs; padding zeros count, too."""

import math
from typing import Any

from cutpaste_tf.backend import keras
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.sizes import Size


def multiply_adds(feature: keras.Model, size: int | Size) -> float:
    """For one image of a size (height, width), or of a square's side, in units of 10^9."""
    backbone = next((layer for layer in feature.layers if isinstance(layer, keras.Model)), feature)
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    convolutions: list[Any] = [layer for layer in backbone.layers if isinstance(layer, kinds)]
    outputs = keras.Model(backbone.input, [layer.output for layer in convolutions])
    shapes: Any = outputs.compute_output_shape((1, *sizes.of(size), 3))
    pairs = zip(convolutions, shapes, strict=True)
    return sum(math.prod(shape[1:3]) * math.prod(layer.kernel.shape) for layer, shape in pairs) / 1e9
