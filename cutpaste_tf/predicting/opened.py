"""A detector, or an export of one, opened to score images."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf import runs
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.calibration import Calibration
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.exporting.exported import Exported
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import DataSettings

# (images uint8 [count, side, side, 3], whether heat maps are wanted) -> scores float64 [count], and heat maps float32
# [count, side, side], or None.
Score = Callable[[np.ndarray, bool], tuple[np.ndarray, np.ndarray | None]]


class Opened(NamedTuple):
    """What is known of a detector before its network is loaded.

    Attributes:
        load: loads the network, to score with.
        calibration: how normal images score, if that is known.
        config: with the rate of false alarms that was asked for.
        how_read: how files become images.
        trained: hashes of the pixels of the images that it was fitted to.
        told: what the user should know of it.
    """

    load: Callable[[], Score]
    calibration: Calibration | None
    config: Config
    how_read: DataSettings
    trained: frozenset[str]
    told: str

    @property
    def pixel_threshold(self) -> float | None:
        """Heat above it is anomalous; None where that is not known, as of an image model."""
        if self.calibration is None or not len(self.calibration.pixels):
            return None
        return self.calibration.pixel_threshold(self.calibration.rate(self.config.decision))


def open_at(place: Path, false_alarm_rate: float, max_megapixels: float) -> Opened:
    """Opens the detector, or the export, in a folder; loads no TensorFlow.

    Args:
        place: the folder, see `runs.find_detector`.
        false_alarm_rate: in place of the run's; 0: the run's.
        max_megapixels: the same.

    Raises:
        InputError: it is damaged, or its normal images are too few for the rate.
    """
    is_export = runs.is_export(place)
    config, data = Config.read(place / "config.json"), TrainingData.read(place)
    asked = {"false_alarm_rate": false_alarm_rate} if false_alarm_rate else {}
    asked |= {"max_megapixels": max_megapixels} if max_megapixels else {}
    config = config.replaced(**asked).resolved()
    normal = calibration.of(calibration.read_of(place), config)
    told = f"Detector: {place}, {'a patch' if config.patch_size else 'an image'} model of {config.data.image_size} px"
    if normal is not None:
        rate = normal.rate(config.decision)
        told += f"; threshold {normal.threshold(rate):.6g}, {100 * rate:.3g} % false alarms by "
        told += f"{len(normal.scores)} normal images"
    elif false_alarm_rate:
        raise InputError(
            f"--false_alarm_rate={false_alarm_rate:g}: the detector in {place} knows no scores of normal images, "
            "which thresholds come from: train it again."
        )
    else:
        told += "; it knows no scores of normal images, and decides nothing"
    load = functools.partial(_of_export, Exported(place)) if is_export else functools.partial(_of_detector, place)
    how_read = dataclasses.replace(config.data, white=data.white)
    return Opened(load, normal, config, how_read, frozenset(data.images.values()), told)


def _of_detector(place: Path) -> Score:
    detector = Detector.load(place)
    return lambda images, wanted: detector.score_and_localize(images, heat_maps=wanted)


def _of_export(exported: Exported) -> Score:
    exported.load()

    def score(images: np.ndarray, _: bool) -> tuple[np.ndarray, np.ndarray | None]:
        found = exported.score(images, len(images))
        return found.score, found.heat_map

    return score
