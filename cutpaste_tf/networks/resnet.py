"""ResNet-18 in Keras, compatible with torchvision's weights."""

from __future__ import annotations

import numpy as np

from cutpaste_tf.backend import keras
from cutpaste_tf.networks import weights
from cutpaste_tf.networks.weights import STAGE_WIDTHS

# Layer of each named pooled feature: the outputs of the four stages.
FEATURES = {f"layer{stage}": f"layer{stage}_1" for stage in range(1, 5)}


def resnet18(stem: str) -> keras.Model:
    """ResNet-18 (v1, post-activation) up to its last feature map, [batch, height, width, 512].

    Layers are named as in torchvision, with `_` for `.`. Strided convolutions pad explicitly, as in PyTorch, so that
    its ImageNet weights fit. The outputs of the four stages are the layers `layer1_1`, `layer2_1`, `layer3_1` and
    `layer4_1`.

    Args:
        stem: `imagenet` (7x7 stride 2 and max-pool) or `small` (3x3 stride 1).
    """
    image = keras.Input((None, None, 3))
    if stem == "imagenet":
        x = _conv_and_norm(image, 64, 7, "conv1", "bn1", stride=2)  # pyright: ignore[reportArgumentType]
        x = keras.layers.ReLU(name="relu1")(x)
        x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)  # zeros are neutral after a ReLU
        x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
    else:
        x = _conv_and_norm(image, 64, 3, "conv1", "bn1")  # pyright: ignore[reportArgumentType]
        x = keras.layers.ReLU(name="relu1")(x)
    for stage, width in enumerate(STAGE_WIDTHS, start=1):
        for block in range(2):
            x = _residual_block(x, width, f"layer{stage}_{block}", stride=2 if stage > 1 and block == 0 else 1)
    return keras.Model(image, x, name="resnet18")


def set_weights(backbone: keras.Model, path: str, stem: str) -> None:
    """Fills a `resnet18` from torchvision's arrays; arguments and errors as for `weights.read_resnet18`."""
    set_arrays(backbone, weights.read_resnet18(path, stem))


def set_arrays(backbone: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Copies the arrays of `weights.read_resnet18` into a `resnet18`."""
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
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),  # pyright: ignore[reportArgumentType]
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
