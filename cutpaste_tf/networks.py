"""Backbone, pooled feature, projection head and logits (Section 4, Appendix A.1).

Networks take float32 [batch, height, width, 3], RGB in [0, 1], of any size; what normalization
there is, is a layer inside. Everything here is Keras 3 and runs on TensorFlow and JAX alike.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf import efficientnet, weights
from cutpaste_tf.backend import keras
from cutpaste_tf.config import Config, Phase
from cutpaste_tf.errors import InputError
from cutpaste_tf.weights import STAGE_WIDTHS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Networks(NamedTuple):
    """Four networks that share one set of weights.

    Attributes:
        backbone: image [batch, height, width, 3] -> feature map.
        feature: image -> pooled feature [batch, channels], what detection uses.
        embedding: image -> last linear layer of the head [batch, head_dims[-1]].
        classifier: image -> logits [batch, classes] of the proxy task, what training fits.
    """

    backbone: keras.Model
    feature: keras.Model
    embedding: keras.Model
    classifier: keras.Model


def build(config: Config) -> Networks:
    """Builds the networks of a run with fresh weights, drawn from the seed that is set in Keras."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return _build(config)
    finally:
        keras.config.set_dtype_policy(before)


def _build(config: Config) -> Networks:
    image = keras.Input((None, None, 3), name="image")
    x = image
    if config.resolved_normalization == "imagenet":
        variance = np.square(IMAGENET_STD)
        x = keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, name="imagenet_normalization")(x)
    backbone = efficientnet.efficientnet(config.backbone) if config.is_efficientnet else resnet18(config.resolved_stem)
    if config.freezes_batch_norm:
        freeze_batch_norm(backbone)
    feature = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(backbone(x))
    embedding = projection_head(feature, config.head_dims)
    logits = keras.layers.Dense(len(config.views), name="logits", dtype="float32")(embedding)
    return Networks(
        backbone,
        keras.Model(image, feature, name="feature"),
        keras.Model(image, embedding, name="embedding"),
        keras.Model(image, logits, name="classifier"),
    )


def resnet18(stem: str) -> keras.Model:
    """ResNet-18 (v1, post-activation) up to its last feature map, [batch, height, width, 512].

    Layers are named as torchvision's, with `_` for `.`; strided convolutions pad explicitly, as
    PyTorch does, so that its ImageNet weights fit. The outputs of the four stages are the layers
    `layer1_1`, `layer2_1`, `layer3_1` and `layer4_1`.

    Args:
        stem: `imagenet` (7x7 stride 2 and max-pool) or `small` (3x3 stride 1).
    """
    image = keras.Input((None, None, 3))
    if stem == "imagenet":
        x = _conv_and_norm(image, 64, 7, "conv1", "bn1", stride=2)
        x = keras.layers.ReLU(name="relu1")(x)
        x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)  # zeros are neutral after a ReLU
        x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
    else:
        x = _conv_and_norm(image, 64, 3, "conv1", "bn1")
        x = keras.layers.ReLU(name="relu1")(x)
    for stage, width in enumerate(STAGE_WIDTHS, start=1):
        for block in range(2):
            x = _residual_block(x, width, f"layer{stage}_{block}", stride=2 if stage > 1 and block == 0 else 1)
    return keras.Model(image, x, name="resnet18")


def projection_head(feature: keras.KerasTensor, dims: tuple[int, ...]) -> keras.KerasTensor:
    """MLP on top of the pooled feature (Section 4; its layers as DROC's `get_head`): the last is linear."""
    x = feature
    for index, width in enumerate(dims[:-1], start=1):
        x = keras.layers.Dense(width, use_bias=False, name=f"head_dense{index}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"head_bn{index}")(x)
        x = keras.layers.ReLU(name=f"head_relu{index}")(x)
    return keras.layers.Dense(dims[-1], name="embedding", dtype="float32")(x)


def feature_model(whole: keras.Model, feature: str) -> keras.Model:
    """The network from an image to another pooled feature.

    Args:
        whole: `Networks.feature`, or what was loaded of it.
        feature: `pool` (of the last feature map), `level7` (EfficientNet), `layer1` to `layer4` (ResNet-18),
            or the name of a layer of the backbone with an output [batch, height, width, channels].

    Returns:
        image -> float32 [batch, channels], the average over places.

    Raises:
        InputError: the backbone has no such feature.
    """
    if feature == "pool":
        return whole
    backbone = next(layer for layer in whole.layers if isinstance(layer, keras.Model))
    named = {f"layer{stage}": f"layer{stage}_1" for stage in range(1, 5)}
    if backbone.name.startswith("efficientnet"):
        named = {"level7": efficientnet.level7(backbone)}
    outputs = {layer.name: layer.output for layer in backbone.layers if len(layer.output.shape) == 4}
    output = outputs.get(named.get(feature, feature))
    if output is None:
        raise InputError(
            f"--feature={feature} is not known to {backbone.name}; it has pool, {', '.join(named)}, and its layers: "
            f"{', '.join(outputs)}."
        )
    x = whole.input
    for layer in whole.layers:
        if isinstance(layer, keras.layers.Normalization):
            x = layer(x)
    feature_map = keras.Model(backbone.input, output)(x, training=False)
    pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(feature_map)
    return keras.Model(whole.input, pooled, name="feature")


def set_weights(backbone: keras.Model, config: Config) -> None:
    """Fills a backbone with the pretrained weights that `config.weights` names.

    Raises:
        InputError: the file is missing or of another network.
    """
    if config.is_efficientnet:
        efficientnet.set_weights(backbone, config.weights)
    else:
        set_resnet18_weights(backbone, weights.read_resnet18(Path(config.weights).expanduser(), config.resolved_stem))


def freeze_batch_norm(backbone: keras.Model) -> None:
    """Makes a backbone compute the same in training as in inference: batch norm frozen, no drop-connect (A.4).

    Calling it with `training=False` inside a model is not enough: in Keras 3 the outer model's `training`
    takes its place. A frozen batch norm keeps gamma and beta as well as its statistics: the paper freezes
    "the batchnorm layers [...] as suggested by the Keras guide", whose code leaves them untrainable.
    """
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def set_trainable(backbone: keras.Model, config: Config, phase: Phase) -> None:
    """Freezes what a phase leaves alone: the whole backbone, or its batch norm (A.4)."""
    backbone.trainable = not phase.head_only
    if config.freezes_batch_norm:
        freeze_batch_norm(backbone)


def set_resnet18_weights(backbone: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Puts the arrays of `weights.read_resnet18` into a `resnet18`."""
    for layer in backbone.layers:
        name = layer.name.replace("_", ".")
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([arrays[f"{name}.weight"].transpose(2, 3, 1, 0)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])


def _conv_and_norm(
    x: keras.KerasTensor, width: int, kernel: int, conv: str, norm: str, *, stride: int = 1
) -> keras.KerasTensor:
    if stride > 1 and kernel > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{conv}_pad")(x)
    x = keras.layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),
        name=conv,
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)


def _residual_block(x: keras.KerasTensor, width: int, name: str, *, stride: int) -> keras.KerasTensor:
    shortcut = x
    if stride > 1 or x.shape[-1] != width:
        shortcut = _conv_and_norm(x, width, 1, f"{name}_downsample_0", f"{name}_downsample_1", stride=stride)
    x = _conv_and_norm(x, width, 3, f"{name}_conv1", f"{name}_bn1", stride=stride)
    x = keras.layers.ReLU(name=f"{name}_relu1")(x)
    x = _conv_and_norm(x, width, 3, f"{name}_conv2", f"{name}_bn2")
    return keras.layers.ReLU(name=name)(keras.layers.Add(name=f"{name}_add")([x, shortcut]))
