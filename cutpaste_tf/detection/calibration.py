"""A threshold from normal images alone (conformal prediction). No TensorFlow here.

The scores of normal images that the density does not know say how normal images score. A new normal image is as likely
to rank anywhere among them, so that its score is above the k-th smallest of n with a probability of at most
1 - k / (n + 1). That holds as far as the next images are like these ones: frames of one scene count as one image
(`--group_by`), and another camera, light or sharpness asks for images of its own (`--calibration_data`).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats
from scipy.sparse import csgraph

from cutpaste_tf import runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import COPY_AGAIN, DAMAGE, damage, write_arrays
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.scoring import DEFAULT_RATE, DecisionSettings


class Decisions(NamedTuple):
    """What is decided of images.

    Attributes:
        rate: the false alarm rate that holds.
        threshold: images that score above it are called anomalous.
        p_values: float64 [count], see `Calibration.p_values`.
        anomalous: bool [count].
    """

    rate: float
    threshold: float
    p_values: np.ndarray
    anomalous: np.ndarray

    @property
    def words(self) -> list[str]:
        """`anomalous` or `normal`, for each image."""
        return ["anomalous" if is_anomalous else "normal" for is_anomalous in self.anomalous]


class Calibration(NamedTuple):
    """How normal images score.

    Attributes:
        scores: float64 [n], sorted, of normal images that the density does not know.
        pixels: the same of their heat maps' maxima, for a patch model; else empty.
    """

    scores: np.ndarray
    pixels: np.ndarray

    def decide(self, scores: np.ndarray, settings: DecisionSettings) -> Decisions:
        """What is decided of images by their scores, float64 [count]; raises as `rate`."""
        rate = self.rate(settings)
        return self.decide_by(scores, self.threshold(rate), rate)

    def decide_by(self, scores: np.ndarray, threshold: float, rate: float) -> Decisions:
        """What is decided of images by a threshold and the false alarm rate that it has."""
        return Decisions(rate, threshold, self.p_values(scores), scores > threshold)

    def rate_of(self, threshold: float) -> float:
        """The false alarm rate of a threshold: the p-value of a score just above it."""
        above = len(self.scores) - np.searchsorted(self.scores, threshold, side="right")
        return float((1 + above) / (len(self.scores) + 1))

    def rate(self, settings: DecisionSettings) -> float:
        """The false alarm rate that is asked for; where it is left open, what comes nearest to it.

        Raises:
            InputError: there are too few images for the rate.
        """
        check(settings, len(self.scores))
        return settings.false_alarm_rate or max(DEFAULT_RATE, 1 / (len(self.scores) + 1))

    def threshold(self, rate: float) -> float:
        """Images that score above it are called anomalous; of normal ones as many as `rate` says, or fewer."""
        return float(self.scores[self._rank(rate) - 1])

    def pixel_threshold(self, rate: float) -> float:
        """Heat above it is called anomalous; as many of the normal images as `rate` says have any."""
        return float(self.pixels[self._rank(rate) - 1])

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """The part of normal images that score so high, float64 [count], of scores [count]; 1 / (n + 1) at the least.

        A score is above the threshold of a rate where its p-value is no more than the rate.
        """
        lower = np.searchsorted(self.scores, scores, side="left")
        return (1 + len(self.scores) - lower) / (len(self.scores) + 1)

    def spread(self, rate: float) -> tuple[float, float]:
        """The 90 % interval of the false alarm rate that the threshold really has: other images would give another."""
        rank = self._rank(rate)
        low, high = stats.beta(len(self.scores) + 1 - rank, rank).ppf([0.05, 0.95])
        return float(low), float(high)

    def _rank(self, rate: float) -> int:
        """k of the k-th smallest score, the threshold."""
        # Less a little: 20 * (1 - 0.05) may be 19.000000000000004.
        return max(1, math.ceil((len(self.scores) + 1) * (1 - rate) - 1e-9))


def check(settings: DecisionSettings, count: int) -> None:
    """Sees whether so many normal images can tell the false alarm rate that is asked for.

    Raises:
        InputError: they are too few.
    """
    smallest = 1 / (count + 1)
    if 0 < settings.false_alarm_rate < smallest:
        raise InputError(
            f"--false_alarm_rate={settings.false_alarm_rate:g} is below {math.ceil(1e4 * smallest) / 1e4:g}, the least "
            f"that {count} normal images can tell (1 / (images + 1)); take that or more, or more images."
        )


def check_one_given(threshold: float | None, false_alarm_rate: float | None) -> None:
    """Sees whether a threshold, or a false alarm rate that gives one, was given, and not both; None and 0: it was not.

    Raises:
        InputError: both are given.
    """
    if threshold is not None and false_alarm_rate:
        raise InputError("--threshold and --false_alarm_rate are given; leave one of them out.")


def write(path: Path, held_out: np.ndarray) -> None:
    """Keeps such scores in a file."""
    write_arrays(path, {"held_out": held_out})


def read(path: Path) -> np.ndarray:
    """Reads what `write` wrote.

    Raises:
        InputError: it is damaged.
    """
    try:
        with np.load(path) as arrays:
            return np.array(arrays["held_out"])
    except DAMAGE as error:
        raise InputError(f"{path} is damaged ({damage(error)}): {COPY_AGAIN}.") from None


def read_of(detector_dir: Path) -> np.ndarray | None:
    """Reads a detector's scores; None where it has none, as one of version 0.2. Raises as `read`."""
    path = detector_dir / runs.CALIBRATION
    return read(path) if path.is_file() else None


def write_export(folder: Path, calibration: Calibration) -> None:
    """Writes an export's calibration.npz: an export cannot reduce the scores of patches."""
    write_arrays(folder / runs.CALIBRATION, calibration._asdict())


def read_export(folder: Path) -> Calibration:
    """Reads what `write_export` wrote.

    Raises:
        InputError: it is damaged, or of an earlier version.
    """
    path = folder / runs.CALIBRATION
    try:
        with np.load(path) as arrays:
            return Calibration(arrays["scores"], arrays["pixels"])
    except DAMAGE as error:
        raise InputError(f"{path} is damaged or of an earlier version ({damage(error)}): export again.") from None


def groups(data: TrainingData, group_by: str) -> np.ndarray | None:
    """Which training images are left out together, as frames of one scene are; copies of an image always are.

    Args:
        data: the images.
        group_by: `none`; `folder`; or `prefix`: the name without the digits at its end.

    Returns:
        int [count]; None where each image is a group of its own.

    Raises:
        InputError: all of them are one group.
    """
    keys: dict[str, Callable[[str], str]] = {
        "none": lambda path: path,
        "folder": lambda path: str(Path(path).parent),
        "prefix": lambda path: str(Path(path).with_suffix("")).rstrip("0123456789"),
    }
    names = [keys[group_by](path) for path in data.images]
    # An image and its copy vouch for each other: groups that share pixels are one.
    _, by_name = np.unique(names, return_inverse=True)
    _, by_pixels = np.unique([*data.images.values()], return_inverse=True)
    pairs = np.ones(len(names)), (by_name, by_pixels + len(names))
    _, parts = csgraph.connected_components(sparse.coo_matrix(pairs, shape=(2 * len(names),) * 2), directed=False)
    result = np.unique(parts[by_name], return_inverse=True)[1]
    if group_by != "none" and len(names) > 1 and result.max() == 0:
        raise InputError(
            f"--group_by={group_by}: all {len(names)} training images are one group ({names[0]}), which leaves none to "
            "give a threshold; group by something else."
        )
    return None if result.max() + 1 in (1, len(names)) else result
