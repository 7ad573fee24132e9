"""Densities of patch features: one for all locations of an image, or one for each (A.5).

Features of an image are float32 [locations, dimensions]; they come one image at a time, as
`dense.function` makes them, so that what is held does not grow with the number of images but where
it has to: `PerLocationGaussian` keeps locations * images * dimensions numbers, in a temporary file
beyond 128 MiB.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from cutpaste_tf.density.density import Density
from cutpaste_tf.density.gaussian import GaussianDensity, moments
from cutpaste_tf.density.low_rank import LowRankGaussian
from cutpaste_tf.density.settings import DensitySettings
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import write_arrays
from cutpaste_tf.images import arrays

_FILE = "density.npz"
_FACTORS = "location_factors.npy"
_LOCATIONS = 64  # fitted and scored together: 55 MB in float64 with 209 images of 512 dimensions


class SharedGaussian:
    """One Gaussian for the patches of all locations; its moments are summed up, image by image.

    Args:
        l2_normalize: scale each feature vector to unit length first.
        reg_covar: ridge added to the covariance's diagonal.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6):
        self._gaussian = GaussianDensity(l2_normalize=l2_normalize, reg_covar=reg_covar)

    def fit(self, features: Iterable[np.ndarray], count: int) -> "SharedGaussian":
        """Fits to the features [locations, dimensions] of `count` normal images.

        Raises:
            InputError: features are not finite.
        """
        number, mean, covariance = moments(self._gaussian.prepare(_finite(one)) for one in features)
        if not number:
            raise InputError("There are no features to fit a density to.")
        covariance[np.diag_indices_from(covariance)] += self._gaussian.reg_covar
        try:
            self._gaussian.set_moments(mean, covariance)
        except np.linalg.LinAlgError:
            raise InputError("The covariance of the patches' features is singular; raise --reg_covar.") from None
        return self

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log densities float64 [images, locations] of features [images, locations, dimensions]."""
        return np.stack([self._gaussian.score_samples(one) for one in features])

    @property
    def peak(self) -> float:
        """The highest log density there can be."""
        whitening = self._gaussian.to_arrays()["precisions_cholesky"][0]
        return float(np.sum(np.log(np.diag(whitening))) - 0.5 * len(whitening) * np.log(2 * np.pi))

    def save(self, folder: Path) -> None:
        """Writes density.npz."""
        write_arrays(folder / _FILE, self._gaussian.to_arrays())

    def load(self, folder: Path) -> "SharedGaussian":
        """Reads what `save` wrote."""
        with np.load(folder / _FILE) as stored:
            self._gaussian.restore(dict(stored))
        return self


class PerLocationGaussian:
    """A Gaussian for each location, in the exact low-rank form of `LowRankGaussian`.

    Args:
        l2_normalize: scale each feature vector to unit length first.
        reg_covar: ridge added to each covariance's diagonal, greater than 0.
        dtype: that factors are kept in. By default float32 for features of unit length, whose log densities it leaves
            correct to 1e-5 of themselves; else float64, since errors grow with the square of the length.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6, dtype: type[np.floating] | None = None):
        self._options = {"l2_normalize": l2_normalize, "reg_covar": reg_covar}
        self._dtype = dtype or (np.float32 if l2_normalize else np.float64)

    def fit(self, features: Iterable[np.ndarray], count: int) -> "PerLocationGaussian":
        """Fits to the features [locations, dimensions] of `count` normal images; errors as `SharedGaussian.fit`."""
        held = np.empty(0)
        for index, one in enumerate(features):
            if index == 0:
                held = arrays.allocate(len(one), (count, one.shape[1]), self._dtype)
            held[:, index] = _finite(one)
        rank = min(held.shape[1:])
        means, peaks = [], []
        with _one_thread():
            for chosen in self._batches(len(held)):
                fitted = self._gaussian().fit(held[chosen]).to_arrays()
                held[chosen, :rank] = fitted["factor"]  # in the place of the features, which are not needed again
                means.append(fitted["mean"])
                peaks.append(fitted["peak"])
        self._factors, self._means, self._peaks = held[:, :rank], np.concatenate(means), np.concatenate(peaks)
        return self

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log densities float64 [images, locations] of features [images, locations, dimensions]."""
        scores = np.empty(features.shape[:2])
        with _one_thread():
            for chosen in self._batches(len(self._means)):
                fitted = {"mean": self._means[chosen], "factor": self._factors[chosen], "peak": self._peaks[chosen]}
                gaussian = self._gaussian().restore(fitted)
                scores[:, chosen] = gaussian.score_samples(features[:, chosen].swapaxes(0, 1)).T
        return scores

    @property
    def peak(self) -> float:
        """The highest log density there can be at any location."""
        return float(self._peaks.max())

    def save(self, folder: Path) -> None:
        """Writes density.npz and location_factors.npy, [locations, rank, dimensions]."""
        np.savez(folder / _FILE, mean=self._means, peak=self._peaks)
        np.save(folder / _FACTORS, self._factors)

    def load(self, folder: Path) -> "PerLocationGaussian":
        """Reads what `save` wrote; the factors stay in their file until they are used."""
        with np.load(folder / _FILE) as stored:
            self._means, self._peaks = stored["mean"], stored["peak"]
        self._factors = np.load(folder / _FACTORS, mmap_mode="r")
        return self

    def _gaussian(self) -> Density:
        return LowRankGaussian(**self._options)

    @staticmethod
    def _batches(locations: int) -> Iterable[slice]:
        return (slice(start, min(start + _LOCATIONS, locations)) for start in range(0, locations, _LOCATIONS))


PatchDensity = SharedGaussian | PerLocationGaussian


def build(settings: DensitySettings) -> PatchDensity:
    """The density of a patch model, not yet fitted."""
    kind = {"shared": SharedGaussian, "per_location": PerLocationGaussian}[settings.density_mode]
    return kind(l2_normalize=settings.l2_normalize, reg_covar=settings.reg_covar)


def _one_thread() -> AbstractContextManager[object]:
    """Keeps BLAS to one thread: two that wait for each other over small matrices are 200 times slower on a busy CPU."""
    return threadpool_limits(1, user_api="blas")


def _finite(features: np.ndarray) -> np.ndarray:
    if not np.all(np.isfinite(features)):
        raise InputError("The features are not all finite numbers: training has diverged; lower --learning_rate.")
    return features
