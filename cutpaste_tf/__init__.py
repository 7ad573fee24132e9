"""CutPaste (Li et al., CVPR 2021): self-supervised anomaly detection and localization.

The public API is here (docs/python.md): `Config`, `train`, `evaluate`, `export`, `load`, `Detector`; for arrays
`OutlierDetector`; as Keras layers `RandomCutPaste` and `RandomCutPasteScar`.

The subpackages, in the order in which an image passes through them, are images, networks, augmentation and density;
runs.py, the folder of a run; pictures, detection, training, evaluation, serving and reproduction; and cli. Each is
documented in its `__init__`. All of them use settings, plain data with a group for each subpackage; files.py and
arrays.py, for files and large arrays; backend.py; and devices.py, which distributes work.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from cutpaste_tf import environment

__version__ = "0.3.0"

# Both must be set before TensorFlow is imported. oneDNN is off by default on CPUs without AVX-512, where it makes
# ResNet-18 training about three times faster. Level 3 hides most start-up messages, such as the "error" that there is
# no GPU; real failures still raise.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
environment.prepare()

if TYPE_CHECKING:
    from cutpaste_tf.augmentation.layers import RandomCutPaste, RandomCutPasteScar
    from cutpaste_tf.detection.detector import Detector
    from cutpaste_tf.detection.loading import load
    from cutpaste_tf.errors import InputError
    from cutpaste_tf.evaluation.evaluate import evaluate
    from cutpaste_tf.evaluation.options import EvaluationOptions
    from cutpaste_tf.serving.export import ExportOptions, export
    from cutpaste_tf.settings.config import Config
    from cutpaste_tf.training.outlier_detector import OutlierDetector
    from cutpaste_tf.training.train import train

_PUBLIC = {
    "Config": "settings.config",
    "Detector": "detection.detector",
    "EvaluationOptions": "evaluation.options",
    "ExportOptions": "serving.export",
    "InputError": "errors",
    "OutlierDetector": "training.outlier_detector",
    "RandomCutPaste": "augmentation.layers",
    "RandomCutPasteScar": "augmentation.layers",
    "evaluate": "evaluation.evaluate",
    "export": "serving.export",
    "load": "detection.loading",
    "train": "training.train",
}
__all__ = [
    "Config",
    "Detector",
    "EvaluationOptions",
    "ExportOptions",
    "InputError",
    "OutlierDetector",
    "RandomCutPaste",
    "RandomCutPasteScar",
    "evaluate",
    "export",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    """Loads public names on first use, so that a command loads only the subpackages it needs."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
