"""Which kind of detector a configuration or a folder is: asked here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf import runs
from cutpaste_tf.backend import keras
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.detector import Detector, FittedDetector
from cutpaste_tf.detection.ensemble import Ensemble
from cutpaste_tf.detection.exported_detector import ExportedDetector
from cutpaste_tf.detection.image_detector import ImageDetector
from cutpaste_tf.detection.patch_detector import NO_GRADCAM, PatchDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config


def make(network: keras.Model | Path, config: Config, data: TrainingData, *, gradcam_layer: str = "") -> FittedDetector:
    """A detector that is not fitted yet.

    Args:
        network: from images in [0, 1] to the pooled feature, or the file that holds it.
        config: says the kind.
        data: the images that it will be fitted to.
        gradcam_layer: see `ImageDetector`.

    Raises:
        InputError: a layer is named for a patch model.
    """
    if not config.patch_size:
        return ImageDetector(network, config, data, gradcam_layer=gradcam_layer)
    if gradcam_layer:
        raise InputError(NO_GRADCAM)
    return PatchDetector(network, config, data)


def load(folders: str | Path | Sequence[str | Path] | Detector) -> Detector:
    """Reads the detector of a complete run, one that was copied from it, or an export; of several, their ensemble.

    The network is read when it is first needed, see `Detector.prepare`. A detector is given back as it is.

    Raises:
        InputError: a folder is missing or holds no detector, a file of it is damaged, or the detectors cannot be one.
    """
    if isinstance(folders, Detector):
        return folders
    named = places(folders)
    members = [load_one(runs.find_detector(place)) for place in named]
    return members[0] if len(members) == 1 else Ensemble(members, named)


def places(folders: str | Path | Sequence[str | Path]) -> list[Path]:
    """The folders that are named, one or several."""
    return [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]


def load_one(place: Path) -> Detector:
    """Reads the detector, or the export, in a folder of its own; errors as `load`."""
    if runs.is_export(place):
        return ExportedDetector(place)
    detector = make(place / runs.MODEL, Config.read(place / "config.json"), TrainingData.read(place))
    return detector.restore(place, calibration.read_of(place))
