"""Gaussian densities: a single Gaussian (Eq. 2), one with a shrunk covariance, and a mixture."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture

from cutpaste_tf.density import held_out
from cutpaste_tf.density.density import ROWS, Density, parts


class MixtureDensity(Density):
    """Mixture of Gaussians with full covariances, using scikit-learn's `GaussianMixture`.

    Args:
        components: number of Gaussians.
        l2_normalize: as in `Density`.
        reg_covar: ridge added to each covariance's diagonal.
    """

    def __init__(self, *, components: int, l2_normalize: bool = True, reg_covar: float = 1e-6):
        super().__init__(l2_normalize=l2_normalize)
        self.reg_covar = reg_covar
        # Any: scikit-learn's stubs type its learned attributes as None.
        self._mixture: Any = GaussianMixture(components, covariance_type="full", reg_covar=reg_covar, random_state=0)

    _hint = "raise --reg_covar, lower --mixture_components, or "

    def _fit(self, features: np.ndarray) -> None:
        self._mixture.fit(features)

    def _score(self, features: np.ndarray) -> np.ndarray:
        return self._mixture.score_samples(features)

    @property
    def dimensions(self) -> int:  # noqa: D102
        return self._mixture.means_.shape[-1]

    def _score_gradient(self, features: np.ndarray) -> np.ndarray:
        mixture, gradient = self._mixture, np.zeros(features.shape)
        parts = zip(mixture.predict_proba(features).T, mixture.means_, mixture.precisions_cholesky_, strict=True)
        for responsibility, mean, cholesky in parts:
            gradient += responsibility[:, None] * ((features - mean) @ cholesky @ cholesky.T)
        return gradient

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Weights, means and Cholesky factors of the precisions."""
        mixture = self._mixture
        return {
            "weights": mixture.weights_,
            "means": mixture.means_,
            "precisions_cholesky": mixture.precisions_cholesky_,
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Restores the state from another density's `to_arrays`."""
        mixture = self._mixture
        mixture.weights_, mixture.means_ = arrays["weights"], arrays["means"]
        mixture.precisions_cholesky_ = arrays["precisions_cholesky"]
        inverses = np.linalg.inv(mixture.precisions_cholesky_)
        mixture.covariances_ = inverses.transpose(0, 2, 1) @ inverses
        return self


class GaussianDensity(MixtureDensity):
    """Gaussian density of the features (Eq. 2), using scikit-learn as in A.1.

    For more than ROWS images the moments are summed in parts, with the same result, because scikit-learn would hold
    four copies of the features in float64.

    With fewer images than dimensions, the covariance is rank-deficient; the ridge `reg_covar` then sets the scale of
    every direction that the training images do not span.

    Attributes:
        mean_: float64 [dimensions].
        covariance_: float64 [dimensions, dimensions], with the ridge.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6):
        super().__init__(components=1, l2_normalize=l2_normalize, reg_covar=reg_covar)

    def _fit_given(self, features: np.ndarray) -> None:
        if len(features) <= ROWS:
            super()._fit_given(features)
            return
        center, sums = self.prepare(features[:ROWS]).mean(axis=0), Moments()
        for part in parts(features):
            sums.add(self.prepare(part) - center)
        mean, covariance = mean_and_covariance(center, [sums])
        self.set_moments(mean, covariance + self.reg_covar * np.eye(len(mean)))

    def set_moments(self, mean: np.ndarray, covariance: np.ndarray) -> Self:
        """Sets mean [dimensions] and covariance [dimensions, dimensions], including the ridge, instead of fitting."""
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
        self.restore({"weights": np.ones(1), "means": mean[None], "precisions_cholesky": whitening[None]})
        return self

    def _leave_one_out(self, features: np.ndarray) -> np.ndarray | None:
        if len(features) <= ROWS:
            return held_out.gaussian(self.prepare(features), self.reg_covar)[0]
        prepared = (self.prepare(part) for part in parts(features))
        return held_out.of_fitted(prepared, len(features), self.mean_, self.covariance_, self.reg_covar)

    @property
    def mean_(self) -> np.ndarray:  # noqa: D102
        return self._mixture.means_[0]

    @property
    def covariance_(self) -> np.ndarray:  # noqa: D102
        return self._mixture.covariances_[0]


class LedoitWolfDensity(GaussianDensity):
    """Gaussian with a covariance shrunk toward a multiple of the identity (Ledoit and Wolf, 2004).

    The shrinkage replaces the ridge.
    """

    _hint = ""

    def __init__(self, *, l2_normalize: bool = True):
        super().__init__(l2_normalize=l2_normalize, reg_covar=0.0)

    def _fit_given(self, features: np.ndarray) -> None:
        self._fit(self.prepare(features))  # moments are not enough for the shrinkage

    def _fit(self, features: np.ndarray) -> None:
        shrunk = LedoitWolf().fit(features)
        self.set_moments(shrunk.location_, shrunk.covariance_)

    def _leave_one_out(self, features: np.ndarray) -> np.ndarray | None:
        """Returns None, since the shrinkage depends on every image."""
        del features


class Moments:
    """Sums over features after subtracting a point near the mean, which keeps squares precise."""

    def __init__(self) -> None:
        self.number, self.total, self.seconds = 0, np.float64(0), np.float64(0)

    def add(self, rows: np.ndarray) -> None:
        """Adds features float64 [count, dimensions]."""
        self.number += len(rows)
        self.total = self.total + rows.sum(axis=0)
        self.seconds = self.seconds + rows.T @ rows


def mean_and_covariance(center: np.ndarray, parts: Sequence[Moments]) -> tuple[np.ndarray, np.ndarray]:
    """Mean [dimensions] and covariance [dimensions, dimensions] from sums over parts, relative to a center."""
    number = sum(part.number for part in parts)
    offset = sum(part.total for part in parts) / number
    return center + offset, sum(part.seconds for part in parts) / number - np.outer(offset, offset)
