"""By how much the scores of an export in single precision differ from the evaluation's.

Normal images are compared, and the same mirrored: the density has not seen those, so that their scores lie about the
threshold and above, where decisions can differ.
"""

from typing import NamedTuple

import numpy as np

from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.graphs.graph import Outputs
from cutpaste_tf.errors import InputError

MOST = 25  # images that are compared, at most


class Difference(NamedTuple):
    """The largest differences.

    Attributes:
        images: that were scored both ways, mirrored ones included.
        score: difference of a score, in its unit.
        score_of_range: the same as a part of the scores' range, which the calibration's extend.
        p_value: difference of a p-value.
        heat_map: difference of a pixel of a heat map, as a part of the maps' largest value.
    """

    images: int
    score: float
    score_of_range: float
    p_value: float
    heat_map: float


def chosen(count: int) -> np.ndarray:
    """Which of so many images are compared: MOST at most, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int))


def with_mirrored(images: np.ndarray) -> np.ndarray:
    """Images [count, side, side, 3], and each of them mirrored, [2 * count, side, side, 3]."""
    return np.concatenate([images, images[:, :, ::-1]])


def compare(outputs: Outputs, detector: Detector, threshold: float, images: np.ndarray) -> Difference:
    """Compares what an export gives for images uint8 [count, side, side, 3] with what the detector gives.

    Raises:
        InputError: a decision differs.
    """
    assert detector.calibration is not None
    scores, maps, _ = detector.score(images, heat_maps=True)
    assert maps is not None
    if wrong := int(np.sum(outputs.is_anomalous != (scores > threshold))):
        raise InputError(
            f"In single precision {wrong} of {len(images)} images are decided otherwise than by the evaluation "
            f"(scores differ by up to {np.abs(outputs.score - scores).max():.3g}): take --format=saved_model, or "
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
