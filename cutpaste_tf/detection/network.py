"""A network that is loaded on first use, since scoring cached features needs neither it nor TensorFlow."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutpaste_tf import files, memory
from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import build

# What a network in a file may consist of. Anything else, such as a layer that runs code or reads other files, is
# refused before Keras makes it, whatever the version of Keras.
_LAYERS = (
    *("Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Dense"),
    *("DepthwiseConv2D", "Dropout", "GlobalAveragePooling2D", "InputLayer", "LayerNormalization", "MaxPooling2D"),
    *("Multiply", "Normalization", "ReLU", "Rescaling", "Reshape", "SeparableConv2D", "ZeroPadding2D"),
)
_KINDS = {
    *(f"keras.layers.{name}" for name in _LAYERS),
    *(f"keras.initializers.{name}" for name in ("GlorotUniform", "Ones", "VarianceScaling", "Zeros")),
    *("keras.DTypePolicy", "keras.src.models.functional.Functional", "keras.regularizers.L2", "__keras_tensor__"),
}


class Network:
    """A network from images in [0, 1] to features.

    Args:
        source: the network up to the pooled feature (`build.Networks.feature`), or its file.
    """

    def __init__(self, source: keras.Model | Path):
        self.source = source

    @functools.cached_property
    def model(self) -> keras.Model:
        """The network.

        Raises:
            InputError: its file is damaged.
        """
        return load(self.source) if isinstance(self.source, Path) else self.source

    def feature(self, name: str) -> keras.Model:
        """The network up to a feature; raises what `build.feature_model` raises."""
        return build.feature_model(self.model, name)

    def save(self, path: Path) -> None:
        """Writes the network in Keras' format."""
        self.model.save(path)


def _kinds(described: Any) -> Iterator[str]:
    """The kinds of objects, such as `keras.layers.Conv2D`, in a network's description."""
    if isinstance(described, dict):
        if "class_name" in described:
            yield ".".join(filter(None, (described.get("module"), described["class_name"])))
        described = list(described.values())
    if isinstance(described, list):
        for part in described:
            yield from _kinds(part)


def load(path: Path) -> keras.Model:
    """Loads a network saved by Keras.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            described = json.loads(archive.read("config.json"))
        if damaged:
            raise zipfile.BadZipFile(f"its part {damaged} does not match its checksum")
        if foreign := next((kind for kind in _kinds(described) if kind not in _KINDS), None):
            raise ValueError(f"it has a {foreign}, of which networks here have none")
        return keras.models.load_model(path, compile=False)  # pyright: ignore[reportReturnType]
    except Exception as error:  # from zip, JSON, HDF5 or Keras, depending on the part
        if memory.is_exhausted(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}): {files.COPY_AGAIN}.") from None
