"""Held-out scores: each image is scored by a density that was fitted without it.

In-sample log densities are too high: with fewer images than dimensions, a Gaussian fits every image, and a threshold
from these densities would call nearly every new normal image anomalous.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from sklearn.model_selection import KFold

FOLDS = 20  # instead of one fit per image


def gaussian(features: np.ndarray, reg_covar: float) -> tuple[np.ndarray, np.ndarray]:
    """Log density of each feature under the Gaussian of the others, exact and without refitting for each.

    With c = x - mean of the n features, B = sum c c' + (n - 1) r I, h = c' B^-1 c and g = 1 - n h / (n - 1), the
    Gaussian without x has the squared distance n^2 / (n - 1) h / g to x and the log determinant
    log det(B / (n - 1)) + log g (Sherman and Morrison).

    Args:
        features: float64 [..., n, dimensions], with n >= 2; leading axes are separate Gaussians.
        reg_covar: r, the ridge on the covariance's diagonal.

    Returns:
        Log density of each feature, and the peak of the Gaussian without it; float64 [..., n].

    Raises:
        ValueError: the covariance is singular without one of the features.
    """
    count, dimensions = features.shape[-2:]
    centered = features - features.mean(axis=-2, keepdims=True)
    ridge = (count - 1) * reg_covar
    try:
        with np.errstate(divide="raise", invalid="raise"):
            return _without_each(*(_by_gram if count <= dimensions else _by_moments)(centered, ridge), dimensions)
    except (np.linalg.LinAlgError, FloatingPointError):
        raise ValueError("the covariance is singular without one of them") from None


def of_fitted(
    parts: Iterable[np.ndarray], count: int, mean: np.ndarray, covariance: np.ndarray, reg_covar: float
) -> np.ndarray:
    """The log densities of `gaussian` from the Gaussian of all features, with features in parts.

    Args:
        parts: float64 [part, dimensions] each.
        count: number of features in all parts.
        mean, covariance: [dimensions] and [dimensions, dimensions], with the ridge; normalized by `count`.
        reg_covar: the ridge.

    Returns:
        float64 [count].
    """
    cholesky = np.linalg.cholesky(count * covariance - reg_covar * np.eye(len(mean)))
    whitening = np.linalg.inv(cholesky).T
    leverage = np.concatenate([np.sum(((part - mean) @ whitening) ** 2, axis=1) for part in parts])
    log_density, _ = _without_each(1 - count / (count - 1) * leverage, _log_determinant(cholesky), len(mean))
    return log_density


def _without_each(left: np.ndarray, log_determinant: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Log densities and peaks [..., n] from g [..., n] and log det B [...]."""
    count = left.shape[-1]
    leverage = (1 - left) * (count - 1) / count  # h
    distance = count**2 / (count - 1) * leverage / left
    without = np.asarray(log_determinant)[..., None] - dimensions * np.log(count - 1) + np.log(left)
    peak = -0.5 * (without + dimensions * np.log(2 * np.pi))
    return peak - 0.5 * distance, peak


def _by_moments(centered: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """g [..., n] and log det B [...], via B [..., dimensions, dimensions]."""
    count, dimensions = centered.shape[-2:]
    moments = centered.swapaxes(-1, -2) @ centered + ridge * np.eye(dimensions)
    cholesky = np.linalg.cholesky(moments)
    whitened = np.linalg.inv(cholesky) @ centered.swapaxes(-1, -2)
    leverage = np.sum(whitened**2, axis=-2)
    return 1 - count / (count - 1) * leverage, _log_determinant(cholesky)


def _by_gram(centered: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The same via the Gram matrix [..., n, n], which is smaller if there are few images.

    1 - h is the ridge times the diagonal of (Gram + ridge I)^-1. A part of it, 1 / (n ridge), comes from the centered
    features summing to zero. More weight on that direction makes this term small, so no precision is lost.
    """
    count, dimensions = centered.shape[-2:]
    gram = centered @ centered.swapaxes(-1, -2)
    weight = np.trace(gram, axis1=-2, axis2=-1) / count + ridge
    cholesky = np.linalg.cholesky(gram + ridge * np.eye(count) + weight[..., None, None] / count)
    diagonal = np.sum(np.linalg.inv(cholesky) ** 2, axis=-2)
    left = count / (count - 1) * ridge * (diagonal - 1 / (count * (ridge + weight[..., None])))
    shift = np.log(ridge) - np.log(ridge + weight)
    return left, _log_determinant(cholesky) + shift + (dimensions - count) * np.log(ridge)


def _log_determinant(cholesky: np.ndarray) -> np.ndarray:
    return 2 * np.sum(np.log(np.diagonal(cholesky, axis1=-2, axis2=-1)), axis=-1)


def folds(count: int, groups: np.ndarray | None) -> Iterator[np.ndarray]:
    """Splits images, or groups of images, at random into at most FOLDS folds to leave out.

    Args:
        count: number of images.
        groups: int [count], the group of each image; a group is never split.

    Returns:
        Sorted indices int [part] of each fold; every image is in one fold.
    """
    groups = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    number = groups.max() + 1
    if number < 2:
        yield np.arange(count)
        return
    for _, part in KFold(min(FOLDS, number), shuffle=True, random_state=0).split(np.arange(number)):
        yield np.flatnonzero(np.isin(groups, part))
