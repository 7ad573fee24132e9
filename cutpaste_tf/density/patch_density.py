"""Densities of patch features: one for all locations of an image, or one for each location (A.5).

Features of an image are float32 [locations, dimensions]. They come one image at a time, as `dense.function` makes them,
so memory grows with the number of images only where it must: `PerLocationGaussian` keeps locations * images *
dimensions numbers, in a temporary file beyond 128 MiB, and `SharedGaussian` as many as fit into 4 GiB.

Once fitted, a density has `held_out` and `scored`. `held_out`, float32 [images, locations], scores the patches of
training images by densities fitted without the image (`Density.held_out`), relative to that density's peak, like all
patch scores. `scored` are the indices of these images. Both are empty with fewer than two images.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from cutpaste_tf import arrays
from cutpaste_tf.density import held_out
from cutpaste_tf.density.density import Density, check_finite, check_length
from cutpaste_tf.density.feeding import Fitting, feed
from cutpaste_tf.density.gaussian import GaussianDensity, Moments, mean_and_covariance
from cutpaste_tf.density.low_rank import LowRankGaussian
from cutpaste_tf.density.nearest import NearestPatches
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import COPY_AGAIN, check_numbers, read_arrays, write_arrays
from cutpaste_tf.settings.density import DensitySettings

_FILE = "density.npz"
_FACTORS = "location_factors.npy"
_HELD_OUT = 2**32  # bytes of patch features kept for held-out scores
_TOGETHER = 2**16  # patches of an image added at a time: 67 MB in float64 with 128 dimensions
_LOCATIONS = 64  # locations per batch in fitting and scoring: 55 MB in float64 with 209 images and 512 dimensions


class SharedGaussian:
    """One Gaussian for the patches of all locations; its moments are accumulated image by image.

    Args:
        l2_normalize: scale each feature vector to unit length first.
        reg_covar: ridge added to the covariance's diagonal.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6):
        self._options = {"l2_normalize": l2_normalize, "reg_covar": reg_covar}
        self._gaussian = GaussianDensity(**self._options)

    def fit(
        self,
        features: Iterable[np.ndarray],
        count: int,
        groups: np.ndarray | None = None,
        inside: np.ndarray | None = None,
    ) -> "SharedGaussian":
        """Fits to the features of normal images.

        Args:
            features: float32 [locations, dimensions] for each image.
            count: number of images.
            groups: for `held_out`, as in `Density.held_out`. Images are left out in folds; if their features take more
                than 4 GiB, `held_out` covers an evenly spaced subset that fits.
            inside: bool [count, locations], the patches to fit to; None: all.

        Raises:
            InputError: features are not finite.
        """
        feed([self.fitting(count, groups, inside)], features)
        return self

    def fitting(self, count: int, groups: np.ndarray | None = None, inside: np.ndarray | None = None) -> Fitting:
        """Like `fit`, but takes one image's features at a time, see `feed`."""
        parts = list(held_out.folds(count, groups))
        part_of = np.empty(count, int)
        for number, chosen in enumerate(parts):
            part_of[chosen] = number
        moments = [Moments() for _ in parts]
        center, sampled, sample = np.empty(0), np.empty(0, int), np.empty(0)
        for index in range(count):
            image_features = yield
            check_finite(image_features)
            used = image_features if inside is None else image_features[inside[index]]
            if index == 0:
                center = self._gaussian.prepare(used[:_TOGETHER]).mean(axis=0)
                fitting = np.linspace(0, count, max(1, min(count, _HELD_OUT // image_features.nbytes)), endpoint=False)
                sampled = fitting.astype(int)
                sample = arrays.allocate(len(sampled), image_features.shape, np.float32)
            for start in range(0, len(used), _TOGETHER):
                rows = self._gaussian.prepare(used[start : start + _TOGETHER])
                moments[part_of[index]].add(rows - center)
            sample[sampled == index] = image_features
            if index % arrays.in_memory(sample) == 0:
                arrays.release(sample)
        if not len(sample):
            raise InputError("There are no features to fit a density to.")
        self.scored = sampled if count > 1 else sampled[:0]
        self.held_out = np.empty((len(sampled) if count > 1 else 0, *sample.shape[1:2]), np.float32)
        for number in range(len(parts) if count > 1 else 0):
            others = SharedGaussian(**self._options)
            others._set_moments(center, [part for other, part in enumerate(moments) if other != number])
            for place in np.flatnonzero(part_of[sampled] == number):
                self.held_out[place] = others.peak - others.score_samples(sample[place : place + 1])[0]
                arrays.release(sample)
        self._set_moments(center, moments)

    def _set_moments(self, center: np.ndarray, parts: list[Moments]) -> None:
        mean, covariance = mean_and_covariance(center, parts)
        covariance[np.diag_indices_from(covariance)] += self._gaussian.reg_covar
        try:
            self._gaussian.set_moments(mean, covariance)
        except np.linalg.LinAlgError:
            raise InputError("The covariance of the patches' features is singular; raise --reg_covar.") from None

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log densities float64 [images, locations] of features [images, locations, dimensions]."""
        return np.stack([self._gaussian.score_samples(image_features) for image_features in features])

    @property
    def peak(self) -> float:
        """The highest possible log density."""
        whitening = self.to_arrays()["precisions_cholesky"][0]
        return float(np.sum(np.log(np.diag(whitening))) - 0.5 * len(whitening) * np.log(2 * np.pi))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """See `GaussianDensity.to_arrays`."""
        return self._gaussian.to_arrays()

    def save(self, folder: Path) -> None:
        """Writes density.npz."""
        write_arrays(folder / _FILE, self.to_arrays())

    def load(self, folder: Path) -> "SharedGaussian":
        """Reads what `save` wrote."""
        self._gaussian.load(folder / _FILE)
        return self


class PerLocationGaussian:
    """A Gaussian for each location, in the exact low-rank form of `LowRankGaussian`.

    Args:
        l2_normalize: scale each feature vector to unit length first.
        reg_covar: ridge added to each covariance's diagonal, greater than 0.
        dtype: dtype of the stored factors. By default float32 for features of unit length, which keeps log densities
            correct to a relative 1e-5; otherwise float64, since errors grow with the square of the length.
    """

    def __init__(self, *, l2_normalize: bool = True, reg_covar: float = 1e-6, dtype: type[np.floating] | None = None):
        self._options = {"l2_normalize": l2_normalize, "reg_covar": reg_covar}
        self._dtype = dtype or (np.float32 if l2_normalize else np.float64)

    def fit(
        self,
        features: Iterable[np.ndarray],
        count: int,
        groups: np.ndarray | None = None,
        inside: np.ndarray | None = None,
    ) -> "PerLocationGaussian":
        """Fits like `SharedGaussian.fit`; each image is left out alone unless there are groups."""
        feed([self.fitting(count, groups, inside)], features)
        return self

    def fitting(self, count: int, groups: np.ndarray | None = None, inside: np.ndarray | None = None) -> Fitting:
        """Like `fit`, but takes one image's features at a time, see `feed`."""
        del inside  # a location's density does not depend on the others
        by_location = np.empty(0)
        for index in range(count):
            image_features = yield
            if index == 0:
                by_location = arrays.allocate(len(image_features), (count, image_features.shape[1]), self._dtype)
            check_finite(image_features)
            by_location[:, index] = image_features
        rank = min(by_location.shape[1:])
        means, peaks = [], []
        scored = count if count > 1 else 0
        densities, without = np.empty((scored, len(by_location))), np.full(scored, -np.inf)
        with _one_thread():
            for chosen in self._batches(len(by_location)):
                if scored:
                    log_densities, peak = self._held_out(by_location[chosen], groups)
                    densities[:, chosen] = log_densities.T
                    without = np.maximum(without, peak.max(axis=0))
                fitted = self._gaussian().fit(by_location[chosen]).to_arrays()
                by_location[chosen, :rank] = fitted["factor"]  # overwrites features, which are not needed again
                means.append(fitted["mean"])
                peaks.append(fitted["peak"])
        self.held_out, self.scored = (without[:, None] - densities).astype(np.float32), np.arange(scored)
        self._factors, self._means, self._peaks = by_location[:, :rank], np.concatenate(means), np.concatenate(peaks)

    def _held_out(self, features: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Log densities of features under the others' densities, and their peaks; float64 [locations, images]."""
        gaussian = self._gaussian()
        prepared = gaussian.prepare(features)
        if groups is None:
            return held_out.gaussian(prepared, self._options["reg_covar"])
        log_densities, peaks = np.empty(prepared.shape[:2]), np.empty(prepared.shape[:2])
        for chosen in held_out.folds(prepared.shape[1], groups):
            others = gaussian.fit(np.delete(features, chosen, axis=1))
            log_densities[:, chosen] = others.score_samples(features[:, chosen])
            peaks[:, chosen] = others.to_arrays()["peak"][:, None]
        return log_densities, peaks

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log densities float64 [images, locations] of features [images, locations, dimensions]."""
        check_length(features, self._means.shape[1])
        if features.shape[1] != len(self._means):
            raise InputError(
                f"The density is of {len(self._means)} patches of an image, but its images have {features.shape[1]}: "
                f"its files are from different detectors; {COPY_AGAIN}."
            )
        scores = np.empty(features.shape[:2])
        with _one_thread():
            for chosen in self._batches(len(self._means)):
                fitted = {"mean": self._means[chosen], "factor": self._factors[chosen], "peak": self._peaks[chosen]}
                gaussian = self._gaussian().restore(fitted)
                scores[:, chosen] = gaussian.score_samples(features[:, chosen].swapaxes(0, 1)).T
        return scores

    @property
    def peak(self) -> float:
        """The maximum of the log density over all locations."""
        return float(self._peaks.max())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """`LowRankGaussian.to_arrays` for all locations."""
        return {"mean": self._means, "factor": self._factors, "peak": self._peaks}

    def save(self, folder: Path) -> None:
        """Writes density.npz and location_factors.npy, [locations, rank, dimensions]."""
        np.savez(folder / _FILE, mean=self._means, peak=self._peaks)
        np.save(folder / _FACTORS, self._factors)

    def load(self, folder: Path) -> "PerLocationGaussian":
        """Reads what `save` wrote; the factors stay in their file until they are used."""
        stored = read_arrays(folder / _FILE)
        check_numbers(stored)
        self._means, self._peaks = stored["mean"], stored["peak"]
        self._factors = np.load(folder / _FACTORS, mmap_mode="r", allow_pickle=False)
        locations, dimensions = self._means.shape
        shape, (of_factors, _, length) = self._peaks.shape, self._factors.shape
        if shape != (locations,) or (of_factors, length) != (locations, dimensions) or self._factors.dtype.kind != "f":
            raise ValueError("its arrays do not fit together")
        return self

    def _gaussian(self) -> Density:
        return LowRankGaussian(**self._options)

    @staticmethod
    def _batches(locations: int) -> Iterable[slice]:
        return (slice(start, min(start + _LOCATIONS, locations)) for start in range(0, locations, _LOCATIONS))


PatchDensity = SharedGaussian | PerLocationGaussian | NearestPatches


def build(settings: DensitySettings) -> PatchDensity:
    """The density of a patch model, not yet fitted."""
    if settings.density == "nearest":
        return NearestPatches(
            coreset=settings.coreset, neighbors=settings.neighbors, l2_normalize=settings.l2_normalize
        )
    kind = {"shared": SharedGaussian, "per_location": PerLocationGaussian}[settings.density_mode]
    return kind(l2_normalize=settings.l2_normalize, reg_covar=settings.reg_covar)


def _one_thread() -> AbstractContextManager[object]:
    """Limits BLAS to one thread: on a busy CPU, two threads that share small matrices are 200 times slower."""
    return threadpool_limits(1, user_api="blas")
