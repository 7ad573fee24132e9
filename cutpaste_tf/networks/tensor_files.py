"""Files of named arrays, read without PyTorch and without TensorFlow: .safetensors, .pth and .npz.

A .pth, as `torch.save` writes a state dict, is a zip of raw numbers and a pickle that says which they are. Unpickling
can run anything, so that here it may build tensors and nothing else.
"""

import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cutpaste_tf.files import DAMAGE

# What PyTorch calls numbers of a kind, in little endian as it writes them.
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_ERRORS = (*DAMAGE, SafetensorError, pickle.UnpicklingError, AttributeError, IndexError, TypeError)


class NotTensorsError(ValueError):
    """A file holds no arrays that can be read, or is damaged."""


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file, by their names; its suffix says its kind, .npz where it is another.

    Raises:
        FileNotFoundError: there is none.
        NotTensorsError: it is damaged, or holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    reader = READERS.get(path.suffix, _read_npz)
    try:
        return reader(path)
    except _ERRORS as error:
        raise NotTensorsError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def _read_pth(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as file:
            found = _Unpickler(file, lambda key: archive.read(f"{name.removesuffix('data.pkl')}data/{key}")).load()
    if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
        raise pickle.UnpicklingError("it holds no state dict")
    return dict(found)


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": load_file,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".npz": _read_npz,
}


class _Unpickler(pickle.Unpickler):
    """Builds tensors, in dicts; anything else that a pickle asks for is an error."""

    def __init__(self, file: IO[bytes], numbers: Callable[[str], bytes]):
        super().__init__(file)
        self._numbers = numbers

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may call."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no tensor")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The numbers of a tensor, which lie in a file of their own."""
        kind, dtype, key, _, count = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it holds a {kind}, which is no tensor")
        return np.frombuffer(self._numbers(str(key)), dtype, count)


def _tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> np.ndarray:
    """A view of numbers, checked to lie within them, as a copy."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if offset < 0 or min(strides, default=0) < 0 or (0 not in shape and last >= len(storage)):
        raise pickle.UnpicklingError("a tensor lies beyond its numbers")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()
