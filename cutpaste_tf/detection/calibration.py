"""A threshold from normal images alone (conformal prediction). No TensorFlow here.

The scores of normal images that the density was not fitted to show how normal images score. A new normal image is
equally likely to take any rank among them, so its score exceeds the k-th smallest of n with probability at most
1 - k / (n + 1). This holds as long as new images resemble the calibration images: frames of one scene count as one
image (`--group_by`), and a different camera, lighting or sharpness needs its own images (`--calibration_data`).
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
from cutpaste_tf.files import COPY_AGAIN, check_numbers, read_arrays, reading, write_arrays
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.scoring import DEFAULT_RATE, DecisionSettings


class Decisions(NamedTuple):
    """Decisions on images.

    Attributes:
        rate: the false alarm rate in force.
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
        scores: float64 [n], sorted, of normal images that the density was not fitted to.
        pixels: the sorted maxima of their heat maps for a patch model; otherwise empty.
    """

    scores: np.ndarray
    pixels: np.ndarray

    def decide(self, scores: np.ndarray, settings: DecisionSettings) -> Decisions:
        """Decides on images by their scores, float64 [count]; raises what `rate` raises."""
        rate = self.rate(settings)
        return self.decide_by(scores, self.threshold(rate), rate)

    def decide_by(self, scores: np.ndarray, threshold: float, rate: float) -> Decisions:
        """Decides on images by a threshold, given its false alarm rate."""
        return Decisions(rate, threshold, self.p_values(scores), scores > threshold)

    def rate_of(self, threshold: float) -> float:
        """The false alarm rate of a threshold: the p-value of a score just above it."""
        above = len(self.scores) - np.searchsorted(self.scores, threshold, side="right")
        return float((1 + above) / (len(self.scores) + 1))

    def rate(self, settings: DecisionSettings) -> float:
        """The requested false alarm rate, or the default raised to the lowest rate that the images allow.

        Raises:
            InputError: there are too few images for the rate.
        """
        check(settings, len(self.scores))
        return settings.false_alarm_rate or max(DEFAULT_RATE, 1 / (len(self.scores) + 1))

    def threshold(self, rate: float) -> float:
        """The score above which images are called anomalous: at most a fraction `rate` of normal images exceed it."""
        return float(self.scores[self._rank(rate) - 1])

    def pixel_threshold(self, rate: float) -> float:
        """The heat above which pixels are called anomalous: a fraction `rate` of normal images has such pixels."""
        return float(self.pixels[self._rank(rate) - 1])

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """The fraction of normal images that score as high, float64 [count], for scores [count]; at least 1 / (n + 1).

        A score is above the threshold for a rate if and only if its p-value is at most the rate.
        """
        lower = np.searchsorted(self.scores, scores, side="left")
        return (1 + len(self.scores) - lower) / (len(self.scores) + 1)

    def spread(self, rate: float) -> tuple[float, float]:
        """The 90 % interval for the threshold's true false alarm rate, given that the images are a sample."""
        rank = self._rank(rate)
        low, high = stats.beta(len(self.scores) + 1 - rank, rank).ppf([0.05, 0.95])
        return float(low), float(high)

    def _rank(self, rate: float) -> int:
        """k, where the threshold is the k-th smallest score."""
        # The 1e-9 allows for rounding: 20 * (1 - 0.05) may be 19.000000000000004.
        return max(1, math.ceil((len(self.scores) + 1) * (1 - rate) - 1e-9))


def check(settings: DecisionSettings, count: int) -> None:
    """Checks that this many normal images suffice for the requested false alarm rate.

    Raises:
        InputError: there are too few.
    """
    smallest = 1 / (count + 1)
    if 0 < settings.false_alarm_rate < smallest:
        raise InputError(
            f"--false_alarm_rate={settings.false_alarm_rate:g} is below {math.ceil(1e4 * smallest) / 1e4:g}, the least "
            f"that {count} normal images can resolve (1 / (images + 1)); give at least that, or use more images."
        )


def check_one_given(threshold: float | None, false_alarm_rate: float | None) -> None:
    """Checks that a threshold is a number and that no false alarm rate is given too; None and 0 mean not given.

    Raises:
        InputError: it is not a number, or both are given.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold={threshold} must be a finite number.")
    if threshold is not None and false_alarm_rate:
        raise InputError("--threshold and --false_alarm_rate are both given; omit one of them.")


def write(path: Path, held_out: np.ndarray, regions: np.ndarray | None = None) -> None:
    """Writes held-out scores to a file, and the regions of their images, bool [count or 1, height, width]."""
    arrays = {"held_out": held_out}
    if regions is not None:
        arrays |= {"regions": np.packbits(regions), "regions_shape": np.array(regions.shape)}
    write_arrays(path, arrays)


def read(path: Path) -> np.ndarray:
    """Reads what `write` wrote.

    Raises:
        InputError: the file is damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Held-out scores, and regions if there are any; raises what `read` raises."""
    with reading(path, f": {COPY_AGAIN}."):
        arrays = read_arrays(path)
        scores = arrays["held_out"]
        check_numbers({"held_out": scores})
        if "regions" not in arrays:
            return scores, None
        shape = count, _, _ = tuple(arrays["regions_shape"])
        if count not in (1, len(scores)):
            raise ValueError("it has regions of other images")
        return scores, np.unpackbits(arrays["regions"], count=math.prod(shape)).reshape(shape).astype(bool)


def check_shape(held_out: np.ndarray | None, each: tuple[int, ...], folder: Path) -> None:
    """Checks that held-out scores, if there are any, are [count, *each].

    Raises:
        InputError: they are not.
    """
    if held_out is not None and len(held_out) and held_out.shape[1:] != each:
        raise InputError(f"{folder / runs.CALIBRATION} does not belong to the detector beside it: {COPY_AGAIN}.")


def read_of(detector_dir: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """A detector's held-out scores and their images' regions, as `write` takes them; raises what `read` raises.

    Either is None if it is missing, as scores may be in version 0.2.
    """
    path = detector_dir / runs.CALIBRATION
    return _read(path) if path.is_file() else (None, None)


def write_export(folder: Path, calibration: Calibration) -> None:
    """Writes an export's calibration.npz, already reduced, since an export cannot reduce the scores of patches."""
    write_arrays(folder / runs.CALIBRATION, calibration._asdict())


def read_export(folder: Path) -> Calibration:
    """Reads what `write_export` wrote.

    Raises:
        InputError: the file is damaged or from an earlier version.
    """
    path = folder / runs.CALIBRATION
    with reading(path, ": export again.", or_else=" or from an earlier version"):
        arrays = read_arrays(path)
        check_numbers(arrays)
        scores, pixels = arrays["scores"], arrays["pixels"]
        if scores.ndim != 1 or pixels.shape not in ((0,), scores.shape):
            raise ValueError("its arrays do not fit together")
        return Calibration(np.sort(scores), np.sort(pixels))


def groups(data: TrainingData, group_by: str) -> np.ndarray | None:
    """Groups of training images that are left out together, such as frames of one scene; copies always share a group.

    Args:
        data: the images.
        group_by: `none`; `folder`; or `prefix`: the name without its trailing digits.

    Returns:
        int [count]; None if every image is its own group.

    Raises:
        InputError: all images form one group.
    """
    keys: dict[str, Callable[[str], str]] = {
        "none": lambda path: path,
        "folder": lambda path: str(Path(path).parent),
        "prefix": lambda path: str(Path(path).with_suffix("")).rstrip("0123456789"),
    }
    names = [keys[group_by](path) for path in data.images]
    # An image is not held out if a copy of it is in the fit, so groups that share pixels are merged.
    _, by_name = np.unique(names, return_inverse=True)
    _, by_pixels = np.unique([*data.images.values()], return_inverse=True)
    pairs = np.ones(len(names)), (by_name, by_pixels + len(names))
    _, parts = csgraph.connected_components(sparse.coo_matrix(pairs, shape=(2 * len(names),) * 2), directed=False)
    result = np.unique(parts[by_name], return_inverse=True)[1]
    if group_by != "none" and len(names) > 1 and result.max() == 0:
        raise InputError(
            f"--group_by={group_by}: all {len(names)} training images form one group ({names[0]}), which leaves none "
            "to set a threshold; group by something else."
        )
    return None if result.max() + 1 in (1, len(names)) else result
