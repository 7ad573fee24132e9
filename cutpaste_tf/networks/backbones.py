"""The backbones that there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import efficientnet, resnet, weights


def _no_weights(*_: object) -> NoReturn:
    raise InputError("--weights is given, but no pretrained weights are known for this --backbone.")


class Backbone(NamedTuple):
    """What is to be known of a backbone.

    Attributes:
        build: stem -> the network up to its last feature map, for RGB of any size, [batch, height, width, channels].
            Its `name` is the backbone's.
        check_weights: (what --weights names, stem); raises InputError if that does not fit. Loads no TensorFlow.
        set_weights: (network, what --weights names, stem), fills it.
        features: network -> its layers that have a feature name.
        transfer: whether training follows Appendix A.4 by default: two phases, batch norm frozen.
        dilates: whether `--dense=fast` can take its strides apart: convolutions with explicit padding, and nothing
            that sees the whole image.
        drop_connect: whether it has layers that leave a block's branch out at random in training.
    """

    build: Callable[[str], keras.Model]
    check_weights: Callable[[str, str], object] = _no_weights
    set_weights: Callable[[keras.Model, str, str], None] = _no_weights
    features: Callable[[keras.Model], Mapping[str, str]] = lambda backbone: {}
    transfer: bool = False
    dilates: bool = False
    drop_connect: bool = False


def _efficientnet(name: str) -> Backbone:
    return Backbone(
        build=lambda stem: efficientnet.efficientnet(name),
        check_weights=lambda path, stem: efficientnet.read_weights(name, path),
        set_weights=lambda backbone, path, stem: efficientnet.set_weights(backbone, path),
        features=lambda backbone: {"level7": efficientnet.level7(backbone)},
        transfer=True,
        drop_connect=True,
    )


BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(
        build=resnet.resnet18,
        check_weights=weights.read_resnet18,
        set_weights=resnet.set_weights,
        features=lambda backbone: resnet.FEATURES,
        dilates=True,
    ),
    **{name: _efficientnet(name) for name in (f"efficientnet_b{size}" for size in range(8))},
}
