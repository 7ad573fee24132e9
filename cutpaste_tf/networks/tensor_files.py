"""Reads files of named arrays, .safetensors and .npz, without TensorFlow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cutpaste_tf.files import DAMAGE, read_arrays

_ERRORS = (*DAMAGE, SafetensorError)


class NotTensorsError(ValueError):
    """A file has no readable arrays or is damaged."""


class PickleFileError(ValueError):
    """A file was written by `torch.save`."""


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays in a file by name. The suffix determines the format; an unknown suffix is read as .npz.

    Raises:
        FileNotFoundError: the file does not exist.
        PickleFileError: its suffix is PyTorch's.
        NotTensorsError: it is damaged or has another format.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if path.suffix in (".pth", ".pt"):
        raise PickleFileError(path)
    reader = READERS.get(path.suffix, read_arrays)
    try:
        return reader(path)
    except _ERRORS as error:
        raise NotTensorsError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {".safetensors": load_file, ".npz": read_arrays}
