"""EfficientNet backbones (Table 3, Appendix A.4) from keras.applications, and their ImageNet weights.

keras.applications normalizes inside its network in one of two ways: with `weights="imagenet"` it adds a second
rescaling, which a network built for a weights file lacks, so the same weights give different networks. Here the network
begins after both; the input is normalized by (x - mean) / std, as elsewhere in this project, and weights are copied
layer by layer, regardless of their source.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks.download import EFFICIENTNET, fetch
from cutpaste_tf.networks.weights import read_keras_weights

_FIRST = "stem_conv_pad"  # the first layer after keras.applications' own normalization
# Layers of keras.applications before and after the part used here.
_LEFT_OUT = ("rescaling", "normalization", "predictions", "top_dropout", "avg_pool")


def efficientnet(name: str) -> keras.Model:
    """EfficientNet up to `top_activation`, [batch, height, width, channels], for normalized RGB of any size.

    Args:
        name: `efficientnet_b0` to `efficientnet_b7`.
    """
    application = _application(name)(weights=None, include_top=False, input_shape=(None, None, 3))
    part = keras.Model(application.get_layer(_FIRST).input, application.output, name=name)
    return keras.models.clone_model(part)  # a clone's layers belong to only one graph, so that parts can be extracted


def level7(backbone: keras.Model) -> str:
    """The layer for the paper's level 7: the last sum of block 6 (levels count from 1, and the stem is 1)."""
    names = (layer.name for layer in reversed(backbone.layers))
    return next(name for name in names if name.startswith("block6") and name.endswith("_add"))


def read_weights(name: str, weights: str) -> dict[str, list[np.ndarray]]:
    """A backbone's weights: arrays by layer.

    Args:
        name: name of the backbone.
        weights: `imagenet`, which is downloaded if missing, or a Keras weights file with or without top.

    Raises:
        InputError: the file is missing or damaged, or cannot be downloaded.
    """
    return read_keras_weights(str(fetch(EFFICIENTNET[name], "weights")) if weights == "imagenet" else weights)


def set_weights(backbone: keras.Model, weights: str) -> None:
    """Copies ImageNet weights into an `efficientnet`.

    Args:
        backbone: the network to fill.
        weights: as in `read_weights`.

    Raises:
        InputError: as in `read_weights`, or the file is from another network (the message names the first layer that
            does not fit).
    """
    arrays = read_weights(backbone.name, weights)
    layers = [layer for layer in backbone.layers if layer.weights]
    stored = _by_class(layers, arrays) if any(key.startswith("layers/") for key in arrays) else arrays
    fitting = {}
    for layer in layers:
        values = stored.pop(layer.name, [])
        shapes, needed = [array.shape for array in values], [tuple(weight.shape) for weight in layer.weights]
        if shapes != needed:
            raise InputError(
                f"--weights={weights} is not from {backbone.name}: the layer {layer.name} needs arrays of shape "
                f"{needed}, but the file has {shapes or 'none'}."
            )
        fitting[layer.name] = values
    extra = [name for name in stored if not name.split("/")[-1].startswith((*_LEFT_OUT, "dense"))]
    if extra:
        raise InputError(f"--weights={weights} is not from {backbone.name}, which has no {extra[0]}.")
    for layer in layers:
        layer.set_weights(fitting[layer.name])


def _by_class(layers: list[keras.layers.Layer], arrays: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Gives stored layers, which Keras 3 names by class and position (`conv2d`, `conv2d_1`, ...), the model's names."""
    left, counts = dict(arrays), {}
    result = {}
    for layer in layers:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        key = f"layers/{kind}_{number}" if number else f"layers/{kind}"
        if key in left:
            result[layer.name] = left.pop(key)
    return result | left


def _application(name: str) -> Any:
    return getattr(keras.applications, f"EfficientNetB{name[-1]}")
