"""A network that is loaded on first use, since scoring cached features needs neither it nor TensorFlow."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path

from cutpaste_tf import files, memory
from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import build


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


def load(path: Path) -> keras.Model:
    """Loads a network saved by Keras.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"its part {damaged} does not match its checksum")
        return keras.models.load_model(path, compile=False)  # pyright: ignore[reportReturnType]
    except Exception as error:  # from zip, JSON, HDF5 or Keras, depending on the part
        if memory.is_exhausted(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}): {files.COPY_AGAIN}.") from None
