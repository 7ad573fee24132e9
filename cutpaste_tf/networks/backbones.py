"""The backbones, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import efficientnet, resnet, weights


def _no_weights(*_: object) -> NoReturn:
    raise InputError("--weights is given, but there are no pretrained weights for this --backbone; omit it.")


class Backbone(NamedTuple):
    """A backbone; what the settings need to know about it is in `settings.network.BACKBONE_FACTS`.

    Attributes:
        build: stem -> the network up to its last feature map, for RGB of any size, [batch, height, width, channels].
            Its `name` is the backbone's.
        check_weights: (value of --weights, stem); raises InputError if the weights do not fit. Does not load
            TensorFlow.
        set_weights: (network, value of --weights, stem); sets the weights.
        features: network -> its layers by feature name.
    """

    build: Callable[[str], keras.Model]
    check_weights: Callable[[str, str], object] = _no_weights
    set_weights: Callable[[keras.Model, str, str], None] = _no_weights
    features: Callable[[keras.Model], Mapping[str, str]] = lambda backbone: {}


def _efficientnet(name: str) -> Backbone:
    return Backbone(
        build=lambda stem: efficientnet.efficientnet(name),
        check_weights=lambda path, stem: efficientnet.read_weights(name, path),
        set_weights=lambda backbone, path, stem: efficientnet.set_weights(backbone, path),
        features=lambda backbone: {"level7": efficientnet.level7(backbone)},
    )


BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(
        build=resnet.resnet18,
        check_weights=weights.read_resnet18,
        set_weights=resnet.set_weights,
        features=lambda backbone: resnet.FEATURES,
    ),
    **{name: _efficientnet(name) for name in (f"efficientnet_b{size}" for size in range(8))},
}
