"""One-class classifiers on features (Section 2.3): fit on normal images, score any image.

As in scikit-learn, `score_samples` is the log density, higher = more normal. The anomaly score is
its negative; it is negated once, where scores are made. All of them compute in float64.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from cutpaste_tf import runs
from cutpaste_tf.config import Config
from cutpaste_tf.errors import InputError


class Density:
    """What the densities share: features [count, dimensions] in, log densities [count] out.

    Args:
        l2_normalize: scale each feature vector to unit length first (DROC).
    """

    def __init__(self, *, l2_normalize: bool = True):
        self.l2_normalize = l2_normalize

    _hint = ""

    def fit(self, features: np.ndarray) -> "Density":
        """Fits to features [count, dimensions] of normal images.

        Raises:
            InputError: features are not finite, or the density cannot be fitted to them.
        """
        if not np.all(np.isfinite(features)):
            raise InputError("The features are not all finite numbers: training has diverged; lower --learning_rate.")
        try:
            self._fit(self.prepare(features))
        except ValueError as error:
            raise InputError(
                f"{type(self).__name__} cannot be fitted to {len(features)} feature vectors of {features.shape[1]} "
                f"dimensions ({str(error).splitlines()[0]}); {self._hint}choose another --density."
            ) from error
        return self

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log density, float64 [count], of features [count, dimensions]; higher = more normal."""
        return self._score(self.prepare(features))

    def score_gradient(self, features: np.ndarray) -> np.ndarray:
        """Gradient, float64 [count, dimensions], of the anomaly score -log density at features [count, dimensions]."""
        prepared = self.prepare(features)
        gradient = self._score_gradient(prepared)
        if not self.l2_normalize:
            return gradient
        # Through x / |x|: what points along x does not count.
        tangent = gradient - prepared * np.sum(gradient * prepared, axis=1, keepdims=True)
        return tangent / _length(np.asarray(features, np.float64))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What `restore` needs to make the fitted density again."""
        raise NotImplementedError

    def restore(self, arrays: dict[str, np.ndarray]) -> "Density":
        """Takes over what another density's `to_arrays` gave."""
        raise NotImplementedError

    def _fit(self, features: np.ndarray) -> None:
        raise NotImplementedError

    def _score(self, features: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _score_gradient(self, features: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def prepare(self, features: np.ndarray) -> np.ndarray:
        """Features as float64, scaled to unit length if that was asked for."""
        features = np.asarray(features, np.float64)
        if not self.l2_normalize:
            return features
        return features / _length(features)


class MixtureDensity(Density):
    """Mixture of Gaussians with full covariances, by scikit-learn's `GaussianMixture`.

    Args:
        components: number of Gaussians.
        l2_normalize: as in `Density`.
        reg_covar: ridge added to each covariance's diagonal.
    """

    def __init__(self, *, components: int, l2_normalize: bool = True, reg_covar: float = 1e-6):
        super().__init__(l2_normalize=l2_normalize)
        self.reg_covar = reg_covar
        # Any: the stubs of scikit-learn call its learned attributes None.
        self._mixture: Any = GaussianMixture(components, covariance_type="full", reg_covar=reg_covar, random_state=0)

    _hint = "raise --reg_covar, lower --mixture_components, or "

    def _fit(self, features: np.ndarray) -> None:
        self._mixture.fit(features)

    def _score(self, features: np.ndarray) -> np.ndarray:
        return self._mixture.score_samples(features)

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

    def restore(self, arrays: dict[str, np.ndarray]) -> "MixtureDensity":
        """Takes over what another density's `to_arrays` gave."""
        mixture = self._mixture
        mixture.weights_, mixture.means_ = arrays["weights"], arrays["means"]
        mixture.precisions_cholesky_ = arrays["precisions_cholesky"]
        inverses = np.linalg.inv(mixture.precisions_cholesky_)
        mixture.covariances_ = inverses.transpose(0, 2, 1) @ inverses
        return self


class GaussianDensity(MixtureDensity):
    """Gaussian density of the features (Eq. 2), by scikit-learn as A.1 says.

    Fewer images than dimensions make the covariance rank-deficient; the ridge `reg_covar` then
    decides the scale of every direction that the training images do not span.

    Attributes:
        mean_: float64 [dimensions].
        covariance_: float64 [dimensions, dimensions], with the ridge.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6):
        super().__init__(components=1, l2_normalize=l2_normalize, reg_covar=reg_covar)

    def set_moments(self, mean: np.ndarray, covariance: np.ndarray) -> "GaussianDensity":
        """Takes mean [dimensions] and covariance [dimensions, dimensions], ridge included, instead of fitting them."""
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
        self.restore({"weights": np.ones(1), "means": mean[None], "precisions_cholesky": whitening[None]})
        return self

    @property
    def mean_(self) -> np.ndarray:  # noqa: D102
        return self._mixture.means_[0]

    @property
    def covariance_(self) -> np.ndarray:  # noqa: D102
        return self._mixture.covariances_[0]


class LedoitWolfDensity(GaussianDensity):
    """Gaussian whose covariance is shrunk towards a multiple of the identity as Ledoit and Wolf (2004) estimate it.

    The shrinkage replaces the ridge.
    """

    _hint = ""

    def __init__(self, *, l2_normalize: bool = True):
        super().__init__(l2_normalize=l2_normalize, reg_covar=0.0)

    def _fit(self, features: np.ndarray) -> None:
        shrunk = LedoitWolf().fit(features)
        self.set_moments(shrunk.location_, shrunk.covariance_)


class KernelEstimate(Density):
    """Gaussian kernel density estimate (DROC's), by scikit-learn's `KernelDensity`.

    Args:
        bandwidth: standard deviation of the kernel; 0 takes it from the features: sqrt(dimensions *
            variance / 20), which is DROC's kernel exp(-gamma d^2) with gamma = 10 / (dimensions * variance).
        l2_normalize: as in `Density`.
    """

    def __init__(self, *, bandwidth: float = 0.0, l2_normalize: bool = True):
        super().__init__(l2_normalize=l2_normalize)
        self.bandwidth = bandwidth

    def _fit(self, features: np.ndarray) -> None:
        bandwidth = self.bandwidth or float(np.sqrt(features.shape[1] * features.var() / 20))
        self._estimate = KernelDensity(bandwidth=max(bandwidth, 1e-12)).fit(features)
        self._features = features

    def _score(self, features: np.ndarray) -> np.ndarray:
        return self._estimate.score_samples(features)

    def _score_gradient(self, features: np.ndarray) -> np.ndarray:
        bandwidth = self._estimate.bandwidth
        log_kernels = -0.5 * cdist(features, self._features, "sqeuclidean") / bandwidth**2
        return (features - softmax(log_kernels, axis=1) @ self._features) / bandwidth**2

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The features, scaled, and the bandwidth."""
        return {"features": self._features, "bandwidth": np.array(self._estimate.bandwidth)}

    def restore(self, arrays: dict[str, np.ndarray]) -> "KernelEstimate":
        """Takes over what another density's `to_arrays` gave."""
        self._features = arrays["features"]
        self._estimate = KernelDensity(bandwidth=float(arrays["bandwidth"])).fit(self._features)
        return self


def _length(features: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def load(path: Path, config: Config) -> Density:
    """Reads the density of a detector.

    Raises:
        InputError: the file is missing, damaged, or of another version.
    """
    try:
        with np.load(path) as arrays:
            return build(config).restore(dict(arrays))
    except runs.DAMAGE as error:
        raise InputError(f"{path} is damaged or of another version ({error}): {runs.COPY_AGAIN}.") from None


def build(config: Config) -> Density:
    """The density that a configuration asks for, not yet fitted; the names are those of `config.CHOICES`."""
    scale = config.l2_normalize
    builders = {
        "gaussian": lambda: GaussianDensity(l2_normalize=scale, reg_covar=config.reg_covar),
        "ledoit_wolf": lambda: LedoitWolfDensity(l2_normalize=scale),
        "kde": lambda: KernelEstimate(bandwidth=config.kde_bandwidth, l2_normalize=scale),
        "mixture": lambda: MixtureDensity(
            components=config.mixture_components, l2_normalize=scale, reg_covar=config.reg_covar
        ),
    }
    return builders[config.density]()
