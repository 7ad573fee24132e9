"""Measures how much the scores of a single-precision export differ from the evaluation's.

The images are normal images and their mirror images. The density was not fitted to the mirror images, so their scores
are near the threshold and above, where decisions can differ.
"""

from typing import NamedTuple

import numpy as np

from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.graphs.graph import Outputs
from cutpaste_tf.errors import InputError

MOST = 25  # images to compare, at most


class Difference(NamedTuple):
    """The largest differences.

    Attributes:
        images: number of images scored both ways, including mirrored ones.
        score: difference of a score, in its unit.
        score_of_range: the same as a fraction of the range of scores, including those of the calibration.
        p_value: difference of a p-value.
        heat_map: difference of a pixel of a heat map, as a fraction of the maps' maximum.
    """

    images: int
    score: float
    score_of_range: float
    p_value: float
    heat_map: float


def chosen(count: int) -> np.ndarray:
    """Indices of the images to compare, out of `count`: at most MOST, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int))


def with_mirrored(images: np.ndarray) -> np.ndarray:
    """The images [count, height, width, 3] followed by their mirror images, [2 * count, height, width, 3]."""
    return np.concatenate([images, images[:, :, ::-1]])


def compare(outputs: Outputs, detector: Detector, threshold: float, images: np.ndarray) -> Difference:
    """Compares an export's outputs for images uint8 [count, height, width, 3] with the detector's.

    Raises:
        InputError: a decision differs.
    """
    assert detector.calibration is not None
    scores, maps, _ = detector.score(images, heat_maps=True)
    assert maps is not None
    if wrong := int(np.sum(outputs.is_anomalous != (scores > threshold))):
        raise InputError(
            f"In single precision, {wrong} of {len(images)} images get a different decision than in the evaluation "
            f"(scores differ by up to {np.abs(outputs.score - scores).max():.3g}); use --format=saved_model or "
            "another --false_alarm_rate."
        )
    extent = np.ptp(np.concatenate([scores, detector.calibration.scores]))
    difference = float(np.abs(outputs.score - scores).max())
    return Difference(
        len(images),
        difference,
        difference / max(float(extent), 1e-300),
        float(np.abs(outputs.p_value - detector.calibration.p_values(scores)).max()),
        float(np.abs(outputs.heat_map - maps).max() / max(float(maps.max()), 1e-30)),
    )
