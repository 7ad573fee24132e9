"""One-class classifiers on features (Section 2.3): fit on normal images, score any image.

As in scikit-learn, `score_samples` is the log density, higher = more normal. The anomaly score is
its negative; `Detector.score` negates it, once.
"""

from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture

from cutpaste_tf.config import Config
from cutpaste_tf.errors import InputError


class GaussianDensity:
    """Gaussian density of the features (Eq. 2), by scikit-learn as A.1 says, in float64.

    Fewer images than dimensions make the covariance rank-deficient; the ridge `reg_covar` then
    decides the scale of every direction that the training images do not span.

    Args:
        l2_normalize: scale each feature vector to unit length first (DROC).
        reg_covar: added to the covariance's diagonal.

    Attributes:
        mean_: float64 [dimensions].
        covariance_: float64 [dimensions, dimensions], with the ridge.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6):
        self.l2_normalize = l2_normalize
        self.reg_covar = reg_covar

    def fit(self, features: np.ndarray) -> "GaussianDensity":
        """Fits mean and covariance to features [count, dimensions]."""
        if not np.all(np.isfinite(features)):
            raise InputError("The features are not all finite numbers: training has diverged; lower --learning_rate.")
        try:
            self._mixture = self._new_mixture().fit(self._prepare(features))
        except ValueError as error:
            raise InputError(
                f"The Gaussian cannot be fitted to {len(features)} feature vectors of {features.shape[1]} "
                f"dimensions with --reg_covar={self.reg_covar:g}; raise it ({str(error).splitlines()[0]})"
            ) from error
        self._expose()
        return self

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log density, float64 [count], of features [count, dimensions]; higher = more normal."""
        return self._mixture.score_samples(self._prepare(features))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` needs to make the fitted density again."""
        return {"mean": self.mean_, "precision_cholesky": self._mixture.precisions_cholesky_[0]}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], *, l2_normalize: bool, reg_covar: float) -> "GaussianDensity":
        """A fitted density from the arrays of `to_arrays`."""
        density = cls(l2_normalize=l2_normalize, reg_covar=reg_covar)
        mixture = density._new_mixture()
        mixture.weights_ = np.ones(1)
        mixture.means_ = arrays["mean"][None]
        mixture.precisions_cholesky_ = arrays["precision_cholesky"][None]
        inverse = np.linalg.inv(arrays["precision_cholesky"])
        mixture.covariances_ = (inverse.T @ inverse)[None]
        density._mixture = mixture
        density._expose()
        return density

    def _new_mixture(self) -> Any:  # GaussianMixture, whose learned attributes its stubs call None
        return GaussianMixture(n_components=1, covariance_type="full", reg_covar=self.reg_covar, random_state=0)

    def _expose(self) -> None:
        self.mean_ = self._mixture.means_[0]
        self.covariance_ = self._mixture.covariances_[0]

    def _prepare(self, features: np.ndarray) -> np.ndarray:
        features = np.asarray(features, np.float64)
        if not self.l2_normalize:
            return features
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


# The keys are those of `config.CHOICES["density"]`.
DENSITIES = {"gaussian": GaussianDensity}


def build(config: Config) -> GaussianDensity:
    """The density that a configuration asks for, not yet fitted."""
    return DENSITIES[config.density](l2_normalize=config.l2_normalize, reg_covar=config.reg_covar)
