"""Kernel density estimate."""

from typing import Self

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax
from sklearn.neighbors import KernelDensity

from cutpaste_tf.density.density import Density

_PAIRS = 2**24  # pairs of images at a time: 134 MB


class KernelEstimate(Density):
    """Gaussian kernel density estimate (DROC's), using scikit-learn's `KernelDensity`.

    Args:
        bandwidth: standard deviation of the kernel; 0: from the features, sqrt(dimensions * variance / 20), which is
            DROC's kernel exp(-gamma d^2) with gamma = 10 / (dimensions * variance).
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

    @property
    def dimensions(self) -> int:  # noqa: D102
        return self._features.shape[-1]

    def _score_gradient(self, features: np.ndarray) -> np.ndarray:
        bandwidth = self._estimate.bandwidth
        log_kernels = -0.5 * cdist(features, self._features, "sqeuclidean") / bandwidth**2
        return (features - softmax(log_kernels, axis=1) @ self._features) / bandwidth**2

    def _leave_one_out(self, features: np.ndarray) -> np.ndarray:
        """Uses the bandwidth from all images."""
        features = self.prepare(features)
        count, dimensions = features.shape
        variance = self._estimate.bandwidth**2
        log_densities = np.empty(count)
        together = max(1, _PAIRS // count)
        for start in range(0, count, together):
            log_kernels = -0.5 * cdist(features[start : start + together], features, "sqeuclidean") / variance
            rows = np.arange(len(log_kernels))
            log_kernels[rows, start + rows] = -np.inf
            log_densities[start : start + together] = logsumexp(log_kernels, axis=1)
        return log_densities - np.log(count - 1) - 0.5 * dimensions * np.log(2 * np.pi * variance)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The scaled features and the bandwidth."""
        return {"features": self._features, "bandwidth": np.array(self._estimate.bandwidth)}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Restores the state from another density's `to_arrays`."""
        self._features = arrays["features"]
        self._estimate = KernelDensity(bandwidth=float(arrays["bandwidth"])).fit(self._features)
        return self
