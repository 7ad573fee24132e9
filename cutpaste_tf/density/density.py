"""One-class classifiers on features (Section 2.3): fit on normal images, score any image.

As in scikit-learn, `score_samples` is the log density, higher = more normal. The anomaly score is its negative; the
sign is changed in one place, where scores are computed. All computations are in float64.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from cutpaste_tf import arrays
from cutpaste_tf.density import held_out
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import COPY_AGAIN, check_numbers, read_arrays

# Above this number, features are processed in parts of a quarter of it: 4 MB in float64 at 512 dimensions. Several
# parts are in memory at a time.
ROWS = 2**12


class Density:
    """Base class of densities: features [count, dimensions] in, log densities [count] out.

    Args:
        l2_normalize: scale each feature vector to unit length first (DROC).
    """

    def __init__(self, *, l2_normalize: bool = True):
        self.l2_normalize = l2_normalize

    _hint = ""

    def fit(self, features: np.ndarray) -> Self:
        """Fits to features [count, dimensions] of normal images.

        Raises:
            InputError: features are not finite, or the density cannot be fitted to them.
        """
        for part in parts(features):
            check_finite(part)
        try:
            self._fit_given(features)
        except ValueError as error:
            raise self._refusal(features, error) from error
        return self

    def held_out(self, features: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """Log densities of the features it was fitted to, each from a density fitted without it.

        Args:
            features: [count, dimensions], as for `fit`.
            groups: int [count]: images in a group are left out together; None: each image alone. Groups, and single
                images if there is no closed form, are left out in `held_out.FOLDS` folds.

        Returns:
            float64 [count]; [0] if there are fewer than two images.

        Raises:
            InputError: the density cannot be fitted without some of the features.
        """
        if len(features) < 2:
            return np.empty(0)
        try:
            log_densities = self._leave_one_out(features) if groups is None else None
            return self._by_folds(self.prepare(features), groups) if log_densities is None else log_densities
        except ValueError as error:
            raise self._refusal(features, error) from error

    def _by_folds(self, prepared: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        log_densities = np.empty(len(prepared))
        for chosen in held_out.folds(len(prepared), groups):
            others = copy.deepcopy(self)
            others._fit(np.delete(prepared, chosen, axis=0))
            log_densities[chosen] = others._score(prepared[chosen])
        return log_densities

    def _refusal(self, features: np.ndarray, error: ValueError) -> InputError:
        return InputError(
            f"{type(self).__name__} cannot be fitted to {len(features)} feature vectors of {features.shape[1]} "
            f"dimensions ({str(error).splitlines()[0]}); {self._hint}choose another --density."
        )

    @property
    def dimensions(self) -> int | None:
        """Length of the feature vectors it was fitted to; None if it does not say."""
        return None

    def load(self, path: Path) -> Self:
        """Restores the state from a file of `to_arrays`, and checks it by scoring a vector of zeros.

        Raises:
            one of files.DAMAGE: the file is damaged, or its arrays do not fit together.
        """
        stored = read_arrays(path)
        check_numbers(stored)
        self.restore(stored)
        if self.dimensions is None:
            return self
        score = self.score_samples(np.zeros((1, self.dimensions)))
        if score.shape != (1,) or score.dtype != np.float64 or not np.isfinite(score).all():
            raise ValueError("its arrays do not fit together")
        return self

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log densities, float64 [count], of features [count, dimensions]; higher = more normal.

        Raises:
            InputError: the features have another length than those it was fitted to.
        """
        if self.dimensions is not None:
            check_length(features, self.dimensions)
        return np.concatenate([self._score(self.prepare(part)) for part in parts(features)])

    def score_gradient(self, features: np.ndarray) -> np.ndarray:
        """Gradient, float64 [count, dimensions], of the anomaly score -log density at features [count, dimensions]."""
        prepared = self.prepare(features)
        gradient = self._score_gradient(prepared)
        if not self.l2_normalize:
            return gradient
        # Chain rule for x / |x|: the component along x vanishes.
        tangent = gradient - prepared * np.sum(gradient * prepared, axis=1, keepdims=True)
        return tangent / _length(np.asarray(features, np.float64))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays from which `restore` recreates the fitted density."""
        raise NotImplementedError

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Restores the state from another density's `to_arrays`."""
        raise NotImplementedError

    def _fit_given(self, features: np.ndarray) -> None:
        """Fits to unprepared features."""
        self._fit(self.prepare(features))

    def _fit(self, features: np.ndarray) -> None:
        raise NotImplementedError

    def _score(self, features: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _leave_one_out(self, features: np.ndarray) -> np.ndarray | None:
        """`held_out` of unprepared features, in closed form; None if there is none."""
        del features

    def _score_gradient(self, features: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def prepare(self, features: np.ndarray) -> np.ndarray:
        """Features as float64, scaled to unit length if `l2_normalize`."""
        features = np.asarray(features, np.float64)
        if not self.l2_normalize:
            return features
        return features / _length(features)


def check_finite(features: np.ndarray) -> None:
    """Raises InputError if any feature is not finite."""
    if not np.isfinite(features).all():
        raise InputError("Some features are not finite numbers: training has diverged; lower --learning_rate.")


def check_length(features: np.ndarray, dimensions: int) -> None:
    """Raises InputError unless features [..., dimensions] have this length."""
    if features.shape[-1] != dimensions:
        raise InputError(
            f"The density is of features with {dimensions} dimensions, but the network's have {features.shape[-1]}: "
            f"their files are from different detectors; {COPY_AGAIN}."
        )


def parts(features: np.ndarray) -> Iterator[np.ndarray]:
    """Features [count, dimensions], in parts if more than ROWS, see `arrays.batches`; with more axes, not split."""
    if features.ndim != 2 or len(features) <= ROWS:
        return iter([features])
    return arrays.batches(features, ROWS // 4)


def _length(features: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)
