"""Densities of image features as graphs: the log density, and the anomaly score's gradient, which GradCAM needs.

The formulas are those in `density/`, applied to the arrays of a fitted density.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cutpaste_tf.backend import tf
from cutpaste_tf.density.density import Density
from cutpaste_tf.errors import InputError

# Stores an array in the graph, in the density's dtype: (array, name) -> a variable.
Weights = Callable[[np.ndarray, str], Any]


class Mixture:
    """One or several Gaussians with full covariances, see `gaussian.MixtureDensity`.

    Args:
        arrays: from `MixtureDensity.to_arrays`.
        keep: stores them.
    """

    def __init__(self, arrays: dict[str, np.ndarray], keep: Weights):
        cholesky = arrays["precisions_cholesky"]
        dimensions = cholesky.shape[-1]
        peaks = np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1) - 0.5 * dimensions * np.log(2 * np.pi)
        self._means = keep(arrays["means"][:, None], "means")
        self._cholesky = keep(cholesky, "precisions_cholesky")
        self._peaks = keep((peaks + np.log(arrays["weights"]))[:, None], "peaks")

    def log_density(self, features: Any) -> Any:
        """Log densities [count] of features [count, dimensions]."""
        return tf.reduce_logsumexp(self._logs(self._whitened(features)), axis=0)

    def score_slope(self, features: Any) -> Any:
        """Gradient [count, dimensions] of -log density at features [count, dimensions]."""
        whitened = self._whitened(features)
        parts = tf.linalg.matmul(whitened, self._cholesky, transpose_b=True)
        return tf.reduce_sum(parts * tf.nn.softmax(self._logs(whitened), axis=0)[:, :, None], axis=0)

    def _whitened(self, features: Any) -> Any:
        return tf.linalg.matmul(features - self._means, self._cholesky)

    def _logs(self, whitened: Any) -> Any:
        return self._peaks - 0.5 * tf.reduce_sum(whitened**2, axis=2)


class Kernels:
    """A kernel estimate, see `kernel.KernelEstimate`; arguments as for `Mixture`."""

    def __init__(self, arrays: dict[str, np.ndarray], keep: Weights):
        features, bandwidth = arrays["features"], float(arrays["bandwidth"])
        count, dimensions = features.shape
        center = features.mean(axis=0)  # distances are more precise near 0
        self._center = keep(center, "center")
        self._features = keep((features - center) / bandwidth, "features")
        self._squares = keep((((features - center) / bandwidth) ** 2).sum(axis=1), "squares")
        self._peak = -np.log(count) - dimensions * (0.5 * np.log(2 * np.pi) + np.log(bandwidth))
        self._bandwidth = bandwidth

    def log_density(self, features: Any) -> Any:
        """See `Mixture.log_density`."""
        return tf.reduce_logsumexp(self._logs(self._scaled(features)), axis=1) + self._peak

    def score_slope(self, features: Any) -> Any:
        """See `Mixture.score_slope`."""
        scaled = self._scaled(features)
        near = tf.linalg.matmul(tf.nn.softmax(self._logs(scaled), axis=1), self._features)
        return (scaled - near) / self._bandwidth

    def _scaled(self, features: Any) -> Any:
        return (features - self._center) / self._bandwidth

    def _logs(self, scaled: Any) -> Any:
        products = tf.linalg.matmul(scaled, self._features, transpose_b=True)
        return products - 0.5 * (tf.reduce_sum(scaled**2, axis=1)[:, None] + self._squares)


class Nearest:
    """Gaussians around the nearest features, see `nearest.NearestDensity`; arguments as for `Mixture`."""

    def __init__(self, arrays: dict[str, np.ndarray], keep: Weights):
        features, self._neighbors = arrays["features"], min(int(arrays["neighbors"]), len(arrays["features"]))
        center = features.mean(axis=0)  # distances lose fewer digits near 0
        self._center = keep(center, "center")
        self._features = keep(features - center, "features")
        self._squares = keep(((features - center) ** 2).sum(axis=1), "squares")

    def log_density(self, features: Any) -> Any:
        """See `Mixture.log_density`."""
        return -0.5 * tf.reduce_mean(self._nearest(features - self._center)[0], axis=1)

    def score_slope(self, features: Any) -> Any:
        """See `Mixture.score_slope`."""
        centered = features - self._center
        _, indices = self._nearest(centered)
        return centered - tf.reduce_mean(tf.gather(self._features, indices), axis=1)

    def _nearest(self, centered: Any) -> tuple[Any, Any]:
        """Squared distances and indices [count, neighbors]."""
        products = tf.linalg.matmul(centered, self._features, transpose_b=True)
        squares = tf.reduce_sum(centered**2, axis=1)[:, None] + self._squares - 2 * products
        nearest, indices = tf.math.top_k(-squares, self._neighbors)
        return tf.maximum(-nearest, 0), indices


GraphDensity = Mixture | Kernels | Nearest
# By name, as in densities.DENSITIES.
GRAPHS: dict[str, Callable[[dict[str, np.ndarray], Weights], GraphDensity]] = {
    "gaussian": Mixture,
    "ledoit_wolf": Mixture,
    "kde": Kernels,
    "mixture": Mixture,
    "nearest": Nearest,
}


def check(name: str) -> None:
    """Checks that a density has a graph.

    Raises:
        InputError: it has none.
    """
    if name not in GRAPHS:
        raise InputError(
            f"The run's --density={name} cannot be exported; detection/graphs/densities.py has {', '.join(GRAPHS)}."
        )


class Scaled:
    """A density that scales features to unit length first, if this is enabled.

    Args:
        name: name of the density.
        density: the fitted density.
        keep: stores its arrays.
    """

    def __init__(self, name: str, density: Density, keep: Weights):
        self._inner = GRAPHS[name](density.to_arrays(), keep)
        self._scales = density.l2_normalize

    def log_density(self, features: Any) -> Any:
        """See `Mixture.log_density`."""
        return self._inner.log_density(unit(features) if self._scales else features)

    def score_slope(self, features: Any) -> Any:
        """See `Mixture.score_slope`."""
        if not self._scales:
            return self._inner.score_slope(features)
        prepared = unit(features)
        slope = self._inner.score_slope(prepared)
        tangent = slope - prepared * tf.reduce_sum(slope * prepared, axis=1, keepdims=True)
        return tangent / _length(features)


def unit(features: Any) -> Any:
    """Features [..., dimensions] scaled to unit length."""
    return features / _length(features)


def _length(features: Any) -> Any:
    return tf.maximum(tf.sqrt(tf.reduce_sum(features**2, axis=-1, keepdims=True)), 1e-12)
