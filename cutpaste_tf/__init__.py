"""CutPaste (Li et al., CVPR 2021): self-supervised anomaly detection and localization.

What a program uses is here (docs/python.md): `Config`, `train`, `evaluate`, `export`, `Detector`. The wings, in the
order in which images meet them, each with its own account: images, networks, augmentation, density; runs.py, which
knows the folder of a run; pictures, detection, training, exporting, predicting, evaluation, reproduction; commands,
cli. Beneath all stand settings, plain data, a group for each wing; files.py and arrays.py, which keep and hold what is
large; backend.py; devices.py and processes.py, which divide the work.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from cutpaste_tf import surroundings

# Both must be set before TensorFlow is imported. oneDNN is off by default on CPUs without AVX-512,
# where it makes ResNet-18 training about three times faster. Level 3 hides most of the start-up
# chatter, such as the "error" that there is no GPU; what fails still raises.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
surroundings.prepare()

if TYPE_CHECKING:
    from cutpaste_tf.commands.evaluating import evaluate
    from cutpaste_tf.commands.exporting import export
    from cutpaste_tf.commands.training import train
    from cutpaste_tf.detection.detector import Detector
    from cutpaste_tf.errors import InputError
    from cutpaste_tf.settings.config import Config

_PUBLIC = {
    "Config": "settings.config",
    "Detector": "detection.detector",
    "InputError": "errors",
    "evaluate": "commands.evaluating",
    "export": "commands.exporting",
    "train": "commands.training",
}
__all__ = ["Config", "Detector", "InputError", "evaluate", "export", "train"]


def __getattr__(name: str) -> Any:
    """What is public, loaded when it is asked for: a command that needs one wing loads no other."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
