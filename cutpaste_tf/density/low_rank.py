"""A Gaussian stored in the span of the features it was fitted to: exact, and small if there are few of them."""

from typing import Self

import numpy as np
from scipy.linalg import solve_triangular

from cutpaste_tf.density.density import Density


class LowRankGaussian(Density):
    """The same Gaussian as `gaussian.GaussianDensity`, stored in the span of the training features.

    With the centered features as the rows of X and r for reg_covar, Woodbury's identity turns the squared distance
    c' (X'X / count + r I)^-1 c into |c|^2 / r - |F c|^2, where F = L^-1 X / sqrt(r) and LL' = XX' + count r I.
    This is exact; `reg_covar` must be greater than 0. Leading axes of features [..., count, dimensions] are separate
    Gaussians.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6):
        super().__init__(l2_normalize=l2_normalize)
        self.reg_covar = reg_covar

    def _fit(self, features: np.ndarray) -> None:
        count, dimensions = features.shape[-2:]
        self._mean = features.mean(axis=-2)
        rows = features - self._mean[..., None, :]
        if count > dimensions:
            rows = np.asarray(np.linalg.qr(rows, mode="r"))  # fewer rows with the same X'X
        ridge = count * self.reg_covar
        cholesky = np.linalg.cholesky(rows @ rows.swapaxes(-1, -2) + ridge * np.eye(rows.shape[-2]))
        self._factor = _solve_lower(cholesky, rows) / np.sqrt(self.reg_covar)
        log_ratio = 2 * np.sum(np.log(np.diagonal(cholesky, axis1=-2, axis2=-1)), axis=-1)
        log_determinant = (
            (dimensions - rows.shape[-2]) * np.log(self.reg_covar) + log_ratio - rows.shape[-2] * np.log(count)
        )
        self._peak = -0.5 * (log_determinant + dimensions * np.log(2 * np.pi))

    @property
    def dimensions(self) -> int:  # noqa: D102
        return self._mean.shape[-1]

    def _score(self, features: np.ndarray) -> np.ndarray:
        centered = features - self._mean[..., None, :]
        along = centered @ self._factor.swapaxes(-1, -2)
        distance = np.sum(centered**2, axis=-1) / self.reg_covar - np.sum(along**2, axis=-1)
        return self._peak[..., None] - 0.5 * np.maximum(distance, 0)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Mean [..., dimensions], F [..., rows, dimensions] and the log density at the mean [...]."""
        return {"mean": self._mean, "factor": self._factor, "peak": self._peak}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Restores the state from another density's `to_arrays`; the precision of F may be lower than float64."""
        self._mean, self._factor, self._peak = (np.asarray(arrays[k], np.float64) for k in ("mean", "factor", "peak"))
        return self


def _solve_lower(lower: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """lower^-1 rows, for each of the matrices along the leading axes."""
    if rows.ndim == 2:
        return solve_triangular(lower, rows, lower=True, check_finite=False)
    return np.stack([_solve_lower(*pair) for pair in zip(lower, rows, strict=True)])
