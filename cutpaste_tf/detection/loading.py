"""Creates the detector for a configuration or a folder; the only module that knows all kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf import runs
from cutpaste_tf.backend import keras
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.combination import Combination
from cutpaste_tf.detection.density_detector import DensityDetector
from cutpaste_tf.detection.detector import Detector, FittedDetector
from cutpaste_tf.detection.ensemble import Ensemble
from cutpaste_tf.detection.exported_detector import ExportedDetector
from cutpaste_tf.detection.image_detector import ImageDetector
from cutpaste_tf.detection.network import Network
from cutpaste_tf.detection.patch_detector import NO_GRADCAM, PatchDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config


def make(network: keras.Model | Path, config: Config, data: TrainingData, *, gradcam_layer: str = "") -> FittedDetector:
    """A detector that is not yet fitted.

    Args:
        network: the network from images in [0, 1] to the pooled feature, or its file.
        config: determines the kind.
        data: the images it will be fitted to.
        gradcam_layer: see `ImageDetector`.

    Raises:
        InputError: `gradcam_layer` is given for a patch model.
    """
    if config.combine:
        if gradcam_layer:
            raise InputError(NO_GRADCAM)
        members = [make_single(network, part, data) for part in config.parts]
        return Combination(members, Network(network), config, data)
    return make_single(network, config, data, gradcam_layer=gradcam_layer)


def make_single(
    network: keras.Model | Path, config: Config, data: TrainingData, *, gradcam_layer: str = ""
) -> DensityDetector:
    """Like `make`, but for a configuration that is not a combination."""
    if not config.patch_size:
        return ImageDetector(network, config, data, gradcam_layer=gradcam_layer)
    if gradcam_layer:
        raise InputError(NO_GRADCAM)
    return PatchDetector(network, config, data)


def load(folders: str | Path | Sequence[str | Path] | Detector) -> Detector:
    """Loads the detector of a complete run, a copy of it, or an export; several folders form an ensemble.

    The network is loaded when it is first needed, see `Detector.prepare`. If given a detector, returns it unchanged.

    Raises:
        InputError: a folder is missing or has no detector, a file is damaged, or the detectors cannot form an ensemble.
    """
    if isinstance(folders, Detector):
        return folders
    named = places(folders)
    members = [load_one(runs.find_detector(place)) for place in named]
    return members[0] if len(members) == 1 else Ensemble(members, named)


def places(folders: str | Path | Sequence[str | Path]) -> list[Path]:
    """One or several folders, as a list."""
    return [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]


def load_one(place: Path) -> Detector:
    """Loads the detector or export in a folder; raises what `load` raises."""
    if runs.is_export(place):
        return ExportedDetector(place)
    detector = make(place / runs.MODEL, Config.read(place / "config.json"), TrainingData.read(place))
    return detector.restore(place, *calibration.read_of(place))
