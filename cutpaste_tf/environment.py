"""The environment variables and Keras settings that we override, and the backends that we refuse.

Imports nothing heavy, so that what cannot work is refused at once.
"""

import importlib
import importlib.util
import json
import logging
import os
import sys
from pathlib import Path

from cutpaste_tf.errors import InputError

BACKENDS = ("tensorflow", "jax")
# Meant for trying out scripts: they would cut training short.
_UNWANTED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")


def prepare() -> None:
    """Chooses Keras' backend before Keras is imported, and mends what is in the way; called when the package is.

    KERAS_BACKEND decides. Without it keras.json does, if it names a backend that we work with, else TensorFlow.
    """
    for name in _UNWANTED:
        os.environ.pop(name, None)
    _mend_matplotlib()
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of connections, and devices that are not there
    if os.environ.get("KERAS_BACKEND") or sys.modules.get("keras"):
        return
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    try:
        configured = json.loads((home / "keras.json").read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        configured = ""
    usable = configured in BACKENDS and importlib.util.find_spec(configured) is not None
    os.environ["KERAS_BACKEND"] = configured if usable else "tensorflow"


def _mend_matplotlib() -> None:
    """Sets MPLBACKEND aside where Matplotlib could not be imported with it; Keras imports it, too.

    A notebook leaves the variable to its commands, whose environment need not have what it names.
    """
    if "MPLBACKEND" in os.environ and "matplotlib" not in sys.modules:
        try:
            importlib.import_module("matplotlib")
        except ValueError:
            del os.environ["MPLBACKEND"]
            for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
                del sys.modules[name]  # half imported


def backend() -> str:
    """The backend that Keras has, or will have."""
    if keras := sys.modules.get("keras"):
        return keras.backend.backend()
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def check() -> None:
    """Sees whether we can compute here, before anything is written.

    Raises:
        InputError: Keras' backend is not one that we work with, or is not installed.
    """
    name = backend()
    if name not in BACKENDS:
        raise InputError(
            f"KERAS_BACKEND={name} does not work here: tf.data feeds {' or '.join(BACKENDS)} only. Give "
            "KERAS_BACKEND=tensorflow, or unset it."
        )
    if name == "jax" and importlib.util.find_spec("jax") is None:
        raise InputError("KERAS_BACKEND=jax, but JAX is not installed: pip install jax, or unset KERAS_BACKEND.")
