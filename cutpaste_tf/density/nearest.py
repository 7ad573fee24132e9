"""Distance from a feature to the nearest normal features: of images, or of a coreset of patches (PatchCore).

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022. The CutPaste paper leaves the one-class
classifier open (Section 2.3). Half the squared distance is the negative log density of a unit-variance Gaussian around
the nearest feature, relative to its peak.
"""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.random_projection import GaussianRandomProjection
from threadpoolctl import threadpool_limits

from cutpaste_tf import arrays, files, parallel
from cutpaste_tf.density import held_out
from cutpaste_tf.density.density import Density, check_finite
from cutpaste_tf.density.feeding import Fitting, feed
from cutpaste_tf.errors import InputError

_FILE = "density.npz"
_HELD = 2**32  # bytes of patch features held in order to choose from them and to score them without their image
_CANDIDATES = 10  # candidates drawn at random for each patch that is kept
_PROJECTED = 128  # dimensions in which patches are chosen; a random projection keeps distances to a tenth or so


class NearestDensity(Density):
    """A unit-variance Gaussian around the nearest of the features it is fitted to.

    Args:
        neighbors: number of nearest features whose log densities are averaged.
        l2_normalize: as in `Density`.
    """

    def __init__(self, *, neighbors: int = 1, l2_normalize: bool = True):
        super().__init__(l2_normalize=l2_normalize)
        self._neighbors, self._search = neighbors, NearestNeighbors(algorithm="brute")

    def _fit(self, features: np.ndarray) -> None:
        self._features = features
        self._search.fit(features)

    def _nearest(self, features: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Distances and indices [count, neighbors]; None: from each feature it is fitted to, to the others."""
        others = len(self._features) - (features is None)
        return self._search.kneighbors(features, min(self._neighbors, others))

    def _score(self, features: np.ndarray) -> np.ndarray:
        return _log_density(self._nearest(features)[0])

    def _leave_one_out(self, features: np.ndarray) -> np.ndarray:
        others = NearestDensity(neighbors=self._neighbors, l2_normalize=self.l2_normalize).fit(features)
        return _log_density(others._nearest(None)[0])

    @property
    def dimensions(self) -> int:  # noqa: D102
        return self._features.shape[-1]

    def _score_gradient(self, features: np.ndarray) -> np.ndarray:
        _, indices = self._nearest(features)
        return features - self._features[indices].mean(axis=1)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The prepared features it is fitted to, and the number of neighbors."""
        return {"features": self._features, "neighbors": np.array(self._neighbors)}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Restores the state from another density's `to_arrays`."""
        self._fit(arrays["features"])
        return self


class NearestPatches:
    """`NearestDensity` of a coreset of all patches, from all locations in the images.

    Args:
        coreset: number of patches to keep.
        neighbors: number of nearest patches whose log densities are averaged.
        l2_normalize: scale each feature vector to unit length first.

    Attributes:
        held_out: float32 [images, locations], scores of training patches from the patches kept from other images.
        scored: indices of these images.
        peak: the highest possible score.
    """

    peak = 0.0

    def __init__(self, *, coreset: int, neighbors: int = 1, l2_normalize: bool = True):
        self._coreset = coreset
        self._options = {"neighbors": neighbors, "l2_normalize": l2_normalize}
        self._density = NearestDensity(**self._options)

    def fit(
        self,
        features: Iterable[np.ndarray],
        count: int,
        groups: np.ndarray | None = None,
        inside: np.ndarray | None = None,
    ) -> Self:
        """Fits to the features of normal images.

        Args:
            features: float32 [locations, dimensions] for each image.
            count: number of images.
            groups: for `held_out`, images in a group are left out together, in folds as in `Density.held_out`. If the
                features take more than 4 GiB, only as many images as fit, evenly spaced, contribute patches, and
                `held_out` covers these images.
            inside: bool [count, locations], the patches to fit to; None: all.

        Raises:
            InputError: features are not finite, or the patches that are kept come from too few images.
        """
        feed([self.fitting(count, groups, inside)], features)
        return self

    def fitting(self, count: int, groups: np.ndarray | None = None, inside: np.ndarray | None = None) -> Fitting:
        """Like `fit`, but takes one image's features at a time, see `feed`."""
        held, images = yield from _held(count)
        locations, dimensions = held.shape[1:]
        rows = held.reshape(-1, dimensions)
        allowed = np.arange(len(rows)) if inside is None else np.flatnonzero(inside[images])
        drawn = np.sort(np.random.default_rng(0).permutation(allowed)[: _CANDIDATES * self._coreset])
        candidates = self._density.prepare(rows[drawn])
        kept = farthest_first(_projected(candidates), self._coreset)
        patches, image_of = rows[drawn[kept]], drawn[kept] // locations
        self._density.fit(patches)
        self.scored = images if count > 1 else images[:0]
        self.held_out = np.empty((len(self.scored), locations), np.float32)
        for left_out in held_out.folds(count, groups) if count > 1 else ():
            scored = np.flatnonzero(np.isin(images, left_out))
            if not len(scored):
                continue
            others = ~np.isin(image_of, scored)
            if not others.any():
                raise InputError(f"--coreset={self._coreset} keeps patches from too few images; raise it.")
            density = NearestDensity(**self._options).fit(patches[others])
            self.held_out[scored] = -_scores(density, (held[image] for image in scored))
            arrays.release(held)

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """Log densities float64 [images, locations] of features [images, locations, dimensions]."""
        return _scores(self._density, features)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """`NearestDensity.to_arrays` of the coreset."""
        return self._density.to_arrays()

    def save(self, folder: Path) -> None:
        """Writes density.npz."""
        files.write_arrays(folder / _FILE, self.to_arrays())

    def load(self, folder: Path) -> Self:
        """Reads what `save` wrote."""
        self._density.load(folder / _FILE)
        return self


def _log_density(distances: np.ndarray) -> np.ndarray:
    """Log densities [count] from distances [count, neighbors]."""
    return -0.5 * np.mean(distances**2, axis=1)


def _scores(density: NearestDensity, features: Iterable[np.ndarray]) -> np.ndarray:
    """Scores [images, locations], with one thread for each image.

    Threads that share an image wait for each other, on a busy CPU ten times as long as they compute.
    """
    with threadpool_limits(1):
        return np.stack([*parallel.in_order(density.score_samples, features)])


def farthest_first(points: np.ndarray, count: int) -> np.ndarray:
    """Greedy k-center: each chosen point is the farthest from those chosen before it (Gonzalez, 1985).

    Args:
        points: [points, dimensions].
        count: number of points to choose.

    Returns:
        Indices int [count], or all indices if there are no more points; the first point is the farthest from the mean.
    """
    if count >= len(points):
        return np.arange(len(points))
    squares = np.sum(points**2, axis=1)
    chosen = np.empty(count, int)
    mean = points.mean(axis=0)
    chosen[0] = np.argmax(squares - 2 * points @ mean)
    nearest = np.full(len(points), np.inf, np.float32)
    for index in range(1, count):
        last = chosen[index - 1]
        np.minimum(nearest, squares - 2 * (points @ points[last]) + squares[last], out=nearest)
        nearest[last] = -np.inf  # rounding could leave it above 0
        chosen[index] = np.argmax(nearest)
    return chosen


def _projected(points: np.ndarray) -> np.ndarray:
    """Points in fewer dimensions, float32, since each is compared with thousands of others."""
    points = points.astype(np.float32)
    if points.shape[1] <= _PROJECTED:
        return points
    projection: Any = GaussianRandomProjection
    return projection(_PROJECTED, random_state=0).fit_transform(points)


def _held(count: int) -> Generator[None, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Takes features; returns those of as many images as fit, [images, locations, dimensions], and their indices."""
    held, chosen = np.empty(0), np.empty(0, int)
    for index in range(count):
        image = yield
        check_finite(image)
        if index == 0:
            fitting = max(1, min(count, _HELD // image.nbytes))
            chosen = np.linspace(0, count, fitting, endpoint=False).astype(int)
            held = arrays.allocate(fitting, image.shape, np.float32)
        held[chosen == index] = image
        if index % arrays.in_memory(held) == 0:
            arrays.release(held)
    if not len(held):
        raise InputError("There are no features to fit a density to.")
    return held, chosen
