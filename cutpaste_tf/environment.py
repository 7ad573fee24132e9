"""Checks and adjusts environment variables and Keras settings.

Imports nothing heavy, so that an unsupported environment is refused at once.
"""

import importlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from cutpaste_tf.errors import InputError

BACKENDS = ("tensorflow", "jax")
# These are meant for testing scripts and would cut training short.
_UNWANTED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")


def prepare() -> None:
    """Chooses Keras' backend before Keras is imported, and fixes the environment; called on import of the package.

    KERAS_BACKEND decides. Without it, keras.json decides if it names a supported backend; otherwise TensorFlow is used.
    """
    for name in _UNWANTED:
        os.environ.pop(name, None)
    _mend_matplotlib()
    logging.getLogger("jax").setLevel(logging.WARNING)  # it logs connections and missing devices
    if os.environ.get("KERAS_BACKEND") or sys.modules.get("keras"):
        return
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    try:
        configured = json.loads((home / "keras.json").read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        configured = ""
    usable = configured in BACKENDS and importlib.util.find_spec(configured) is not None
    os.environ["KERAS_BACKEND"] = configured if usable else "tensorflow"


def require(packages: Iterable[str], needed_by: str, extra: str) -> None:
    """Checks that optional packages are installed.

    Args:
        packages: their names on import.
        needed_by: the flag or command that needs them.
        extra: of this package, which installs them.

    Raises:
        InputError: one is missing.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{needed_by} needs the package {package}; run pip install 'cutpaste_tf[{extra}]'.")


def _mend_matplotlib() -> None:
    """Removes MPLBACKEND if Matplotlib cannot be imported with it; Keras imports Matplotlib too.

    Commands inherit the variable from a notebook, but their environment may lack the backend it names.
    """
    if "MPLBACKEND" in os.environ and "matplotlib" not in sys.modules:
        try:
            importlib.import_module("matplotlib")
        except ValueError:
            del os.environ["MPLBACKEND"]
            for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
                del sys.modules[name]  # partially imported


def backend() -> str:
    """The backend that Keras uses or will use."""
    if keras := sys.modules.get("keras"):
        return keras.backend.backend()
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def check() -> None:
    """Checks Keras' backend before anything is written.

    Raises:
        InputError: it is not supported or not installed.
    """
    name = backend()
    if name not in BACKENDS:
        raise InputError(
            f"KERAS_BACKEND={name} does not work here, since tf.data feeds only {' or '.join(BACKENDS)}. Set "
            "KERAS_BACKEND=tensorflow, or unset it."
        )
    if name == "jax" and importlib.util.find_spec("jax") is None:
        raise InputError("KERAS_BACKEND=jax, but JAX is not installed; run pip install jax, or unset KERAS_BACKEND.")
