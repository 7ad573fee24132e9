"""Lazily loaded TensorFlow and Keras: `from cutpaste_tf.backend import keras, tf`.

They are loaded on first use, not on import from here: loading takes seconds, and mistakes should be reported first.
Dtypes and data formats from a keras.json are overridden. Two things must be set before TensorFlow is used:

- With Keras on JAX, TensorFlow only feeds data. It would take the GPUs' memory, so it is kept away from them.
- On CPUs, operations run one after the other, each on all cores. Where they run side by side, a sum of several
  gradients is in the order in which its terms are ready, so that the same seed gives other last bits.
"""

import contextlib
import importlib
import os
import threading
import types
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

_lock = threading.RLock()
_loaded: dict[str, types.ModuleType] = {}


class _Late(types.ModuleType):
    """A module that is loaded on first attribute access."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # accessed by introspection, which should load nothing
            raise AttributeError(name)
        return getattr(_load()[self.__name__], name)


def _load() -> dict[str, types.ModuleType]:
    with _lock:
        if not _loaded:
            with _quietly():
                modules = {name: importlib.import_module(name) for name in ("keras", "tensorflow")}
            _loaded.update(modules)
            leave_gpus()
            _order_operations()
            keras.config.set_floatx("float32")
            keras.config.set_epsilon(1e-7)
            keras.config.set_image_data_format("channels_last")
    return _loaded


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hides what TensorFlow's C++ code prints on import, before log levels apply; exceptions are still raised."""
    try:
        stderr = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def leave_gpus() -> None:
    """Hides all GPUs from TensorFlow if Keras uses another backend."""
    if keras.backend.backend() == "tensorflow":
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        warnings.warn(
            f"TensorFlow was in use before cutpaste_tf and keeps the GPUs' memory ({error}).",
            stacklevel=2,
        )


def _order_operations() -> None:
    """Has operations on CPUs run one after the other, unless the environment says otherwise."""
    is_accelerated = any(device.device_type != "CPU" for device in tf.config.get_visible_devices())
    if keras.backend.backend() == "tensorflow" and not is_accelerated and "TF_NUM_INTEROP_THREADS" not in os.environ:
        with contextlib.suppress(RuntimeError):  # it was in use before
            tf.config.threading.set_inter_op_parallelism_threads(1)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    keras, tf = _Late("keras"), _Late("tensorflow")

__all__ = ["keras", "leave_gpus", "tf"]
