"""Backbone, pooled feature, projection head and logits (Section 4, Appendix A.1).

Networks take float32 [batch, height, width, 3], RGB in [0, 1], of any size. If there is normalization, it is a layer
inside. Everything here is Keras 3 and runs on TensorFlow and JAX.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks.backbones import BACKBONES
from cutpaste_tf.settings.network import NetworkSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# `NetworkSettings.normalization` -> variances; the normalization divides by their square roots.
_VARIANCES = {"imagenet": np.square(IMAGENET_STD), "imagenet_sqrt_std": np.array(IMAGENET_STD)}


class Networks(NamedTuple):
    """Four networks that share one set of weights.

    Attributes:
        backbone: image [batch, height, width, 3] -> feature map.
        feature: image -> pooled feature [batch, channels], used by detection.
        embedding: image -> last linear layer of the head [batch, head_dims[-1]].
        classifier: image -> logits [batch, classes] of the proxy task, used by training; see `from_uint8` for uint8
            views.
    """

    backbone: keras.Model
    feature: keras.Model
    embedding: keras.Model
    classifier: keras.Model


def build(settings: NetworkSettings, classes: int) -> Networks:
    """Builds the networks of a run with new random weights, from the seed set in Keras.

    Args:
        settings: settings from a resolved configuration.
        classes: number of classes of the proxy task.

    Raises:
        ValueError: a setting is not resolved.
    """
    if left_open := [name for name, value in settings.flat().items() if value == "auto"]:
        raise ValueError(f"{', '.join(left_open)}: left open; take the network of Config.resolved()")
    with _policy(settings.precision):
        return _build(settings, classes)


def from_uint8(network: keras.Model) -> keras.Model:
    """The same network for uint8 images; it scales them to [0, 1] on its device, like `color.to_float`."""
    with _policy(network.dtype_policy.name):  # tells Keras whether to scale the loss
        image = keras.Input((None, None, 3), dtype="uint8", name="image")
        scaled = keras.layers.Rescaling(1 / 255, dtype="float32", name="from_uint8")(image)
        return keras.Model(image, network(scaled), name=network.name)


def activation_bytes(backbone: keras.Model, count: int, size: tuple[int, int]) -> int:
    """Bytes of all layers' outputs for a batch, which training keeps until the gradient is known.

    Args:
        backbone: a network of images.
        count: images in a batch.
        size: (height, width) of the images.
    """
    outputs = [layer.output for layer in backbone.layers if not isinstance(layer, keras.layers.InputLayer)]
    every = keras.Model(backbone.inputs, outputs).compute_output_spec(keras.KerasTensor((count, *size, 3)))
    return sum(math.prod(output.shape) * (4 if output.dtype == "float32" else 2) for output in every)


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Sets the precision of networks built in the block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build(settings: NetworkSettings, classes: int) -> Networks:
    image = keras.Input((None, None, 3), name="image")
    x = image
    if settings.normalization in _VARIANCES:
        variance = _VARIANCES[settings.normalization]
        x = keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, name="imagenet_normalization")(x)
    backbone = BACKBONES[settings.backbone].build(settings.stem)
    if not settings.drop_connect:
        _remove_drop_connect(backbone)
    if settings.freeze_batch_norm == "yes":
        freeze_batch_norm(backbone)
    feature = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(backbone(x))
    embedding = projection_head(feature, settings.head_dims)
    logits = keras.layers.Dense(classes, name="logits", dtype="float32")(embedding)
    return Networks(
        backbone,
        keras.Model(image, feature, name="feature"),
        keras.Model(image, embedding, name="embedding"),
        keras.Model(image, logits, name="classifier"),
    )


def projection_head(feature: keras.KerasTensor, dims: tuple[int, ...]) -> keras.KerasTensor:
    """MLP on top of the pooled feature (Section 4; layers as in DROC's `get_head`); the last layer is linear."""
    x = feature
    for index, width in enumerate(dims[:-1], start=1):
        x = keras.layers.Dense(width, use_bias=False, name=f"head_dense{index}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"head_bn{index}")(x)
        x = keras.layers.ReLU(name=f"head_relu{index}")(x)
    return keras.layers.Dense(dims[-1], name="embedding", dtype="float32")(x)


def feature_model(embedding: keras.Model, feature: str) -> keras.Model:
    """The network from an image to another pooled feature.

    Args:
        embedding: `Networks.feature`, built or loaded.
        feature: `pool` (from the last feature map), `level7` (EfficientNet), `layer1` to `layer4` (ResNet-18), or the
            name of a layer of the backbone with output [batch, height, width, channels]. Several, separated by commas,
            are concatenated at the resolution of the coarsest.

    Returns:
        image -> float32 [batch, channels], the average over locations.

    Raises:
        InputError: the backbone has no such feature.
    """
    if feature == "pool":
        return embedding
    backbone = backbone_of(embedding)
    named = BACKBONES[backbone.name].features(backbone)
    maps = {layer.name: layer.output for layer in backbone.layers if len(layer.output.shape) == 4}
    known = {"pool": backbone.output, **{name: maps[layer] for name, layer in named.items()}, **maps}
    names = feature.split(",")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise InputError(
                f"--feature={feature}: {backbone.name} has no '{name}'"
                + (f"; did you mean {near[0]}?" if near else ".")
                + f" It has pool, {', '.join(named)}, and its layers by name, from {[*maps][1]} to {[*maps][-1]}."
            )
    if len(set(names)) < len(names):
        raise InputError(f"--feature={feature} names a feature twice.")
    x = embedding.input
    for layer in embedding.layers:
        if isinstance(layer, keras.layers.Normalization):
            x = layer(x)
    if len(names) == 1:
        feature_map = keras.Model(backbone.input, known[feature])(x, training=False)
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(feature_map)
        return keras.Model(embedding.input, pooled, name="feature")
    several = keras.Model(backbone.input, [known[name] for name in names])
    sides = [shape[1] for shape in several.compute_output_shape((1, 512, 512, 3))]
    averaged = [
        keras.layers.AveragePooling2D(side // min(sides), padding="same", dtype="float32")(feature_map)
        for side, feature_map in zip(sides, several(x, training=False), strict=True)
    ]
    joined = keras.layers.Concatenate(dtype="float32")(averaged)
    pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(joined)
    return keras.Model(embedding.input, pooled, name="feature")


def backbone_of(embedding: keras.Model) -> keras.Model:
    """The backbone within `Networks.feature`, built or loaded."""
    return next(layer for layer in embedding.layers if isinstance(layer, keras.Model))


def _remove_drop_connect(backbone: keras.Model) -> None:
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def freeze_batch_norm(backbone: keras.Model) -> None:
    """Freezes a backbone's batch norm, so that it computes the same in training as in inference (A.4).

    Calling it with `training=False` inside a model is not enough: in Keras 3, the outer model's `training` overrides
    it. Frozen batch norm keeps gamma and beta as well as its statistics: the paper freezes "the batchnorm layers [...]
    as suggested by the Keras guide", whose code makes them untrainable.
    """
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def set_trainable(backbone: keras.Model, *, head_only: bool, freezes_batch_norm: bool) -> None:
    """Freezes what a phase does not train: the whole backbone, or its batch norm (A.4)."""
    backbone.trainable = not head_only
    if freezes_batch_norm:
        freeze_batch_norm(backbone)
