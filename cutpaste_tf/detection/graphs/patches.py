"""The patch model as a graph, see `detection.patch_detector`: images -> patch scores -> heat maps and image scores.

Patch scores are computed as in `detection.dense` and `density.patch_density`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cutpaste_tf.backend import keras, tf
from cutpaste_tf.density.patch_density import PatchDensity, PerLocationGaussian
from cutpaste_tf.detection import dense, heat_maps
from cutpaste_tf.detection.graphs import variables
from cutpaste_tf.detection.graphs.densities import GRAPHS, Weights, unit
from cutpaste_tf.detection.graphs.graph import number_format
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.density import DensitySettings
from cutpaste_tf.settings.scoring import FeatureSettings
from cutpaste_tf.settings.sizes import Size

_LOCATIONS = 64  # locations scored together


class PatchGraph:
    """Patch scores, heat maps and their maxima.

    Args:
        feature: image in [0, 1] -> pooled feature.
        config: configuration of the detector.
        density: fitted density of patches.
        region: bool [height, width], the part of the images that counts; None: all of it.
        single: whether density and maps use single precision and no loops, as ONNX and LiteRT need.
    """

    def __init__(
        self,
        feature: keras.Model,
        config: Config,
        density: PatchDensity,
        *,
        region: np.ndarray | None = None,
        single: bool,
    ):
        self._number, self._settings, size = number_format(single=single), config.heat_maps, config.data.size
        if single:
            variables.keep_normalization(feature)
        loops = not single
        self._embed = Embedder(feature, size, config.features, loops=loops)
        self._score = Scorer(density, config.density, self._keep, self._number, loops=loops)
        self._places = dense.places(size, config.features)
        self._down, self._across = (
            self._keep(heat_maps.spreading(pixels, config.features, config.heat_maps), name)
            for pixels, name in zip(size, ("down", "across"), strict=True)
        )

        self._region = self._inside = None
        if region is not None:
            self._region = variables.keep(region, "region", tf.float32)
            self._inside = variables.keep(dense.inside(region[None], config.features), "inside", tf.float32)

    def embed(self, images: Any, to_unit_range: Any) -> Any:
        """Features float32 [count, locations, dimensions]."""
        return self._embed(images, to_unit_range)

    def negative_log_density(self, embedded: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.negative_log_density`."""
        scores = tf.reshape(self._score(embedded), [-1, *self._places])
        return scores if self._inside is None else scores * self._inside, None

    def reduce(self, densities: Any, maps: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.reduce`."""
        spread = tf.linalg.matmul(self._down, tf.cast(densities, self._number))
        maps = tf.cast(tf.linalg.matmul(spread, self._across, transpose_b=True), tf.float32)
        maps = maps if self._region is None else maps * self._region
        chosen = {"map": maps, "patches": densities}[self._settings.image_score]
        return tf.cast(tf.reduce_max(chosen, axis=[1, 2]), self._number), maps

    def _keep(self, array: np.ndarray, name: str) -> Any:
        return variables.keep(array, name, self._number)


class Embedder:
    """Computes the features of images' patches.

    Args:
        feature: image in [0, 1] -> pooled feature.
        size: (height, width) of the images.
        settings: extract_size, stride, dense.
        loops: see `each`.
    """

    def __init__(self, feature: keras.Model, size: Size, settings: FeatureSettings, *, loops: bool):
        self._settings, self._size, self._loops = settings, size, loops
        is_fast = settings.dense == "fast"
        self._tiling = dense.Tiling.of(size, settings)
        self._network: Any = dense.fully_convolutional(feature, self._tiling.size, settings) if is_fast else feature

    def __call__(self, images: Any, to_unit_range: Callable[[Any], Any]) -> Any:
        """Features float32 [count, locations, dimensions]; with loops, image by image, to limit memory.

        Args:
            images: uint8 [count, height, width, 3].
            to_unit_range: converts them to float32 in [0, 1].
        """
        embed = self._fast if self._settings.dense == "fast" else self._exact
        if not self._loops:
            return embed(images, to_unit_range)

        def of_image(index: Any) -> Any:
            return embed(tf.gather(images, index)[None], to_unit_range)

        features = each(of_image, tf.shape(images)[0], tf.float32, loops=True)
        locations = dense.locations(self._size, self._settings)
        return tf.reshape(features, [-1, locations, self._network.output.shape[-1]])

    def _fast(self, images: Any, to_unit_range: Callable[[Any], Any]) -> Any:
        tiling = self._tiling
        if len(tiling.corners) == 1:
            return self._network(to_unit_range(images), training=False)
        (height, width), corners = tiling.size, tiling.corners

        def of_tile(index: Any) -> Any:
            top, left = tf.unstack(tf.gather(corners, index))
            tile = tf.ensure_shape(images[:, top : top + height, left : left + width], [None, height, width, 3])
            return self._network(to_unit_range(tile), training=False)

        features = each(of_tile, len(corners), tf.float32, loops=self._loops)  # [tiles, images, places, dimensions]
        by_image = tf.transpose(features, [1, 0, 2, 3])
        dimensions, in_tile = self._network.output.shape[-1], self._network.output.shape[1]
        by_image = tf.reshape(by_image, [-1, len(corners) * in_tile, dimensions])
        return tf.gather(by_image, tiling.tile_of * in_tile + tiling.place_of, axis=1)

    def _exact(self, images: Any, to_unit_range: Callable[[Any], Any]) -> Any:
        size, (rows, columns) = self._settings.extract_size, dense.places(self._size, self._settings)
        count, together = rows * columns, dense.batch_size(self._size, self._settings)
        batches = math.ceil(count / together)
        down, across = (
            (np.arange(places)[:, None] * self._settings.stride + np.arange(size)).ravel() for places in (rows, columns)
        )
        cut = tf.gather(tf.gather(images, down, axis=1), across, axis=2)
        cut = tf.reshape(cut, [-1, rows, size, columns, size * 3])  # five axes: LiteRT supports no more
        patches = tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4]), [-1, count, size * size * 3])
        # The last batch is filled up with the last patch, since LiteRT does not pad 8-bit integers.
        patches = tf.gather(patches, np.minimum(np.arange(batches * together), count - 1), axis=1)
        patches = tf.transpose(tf.reshape(patches, [-1, batches, together, size * size * 3]), [1, 0, 2, 3])

        def of_batch(index: Any) -> Any:
            batch = tf.reshape(tf.gather(patches, index), [-1, size, size, 3])
            return self._network(to_unit_range(batch), training=False)

        dimensions = self._network.output.shape[-1]
        features = each(of_batch, batches, tf.float32, loops=self._loops)
        features = tf.transpose(tf.reshape(features, [batches, -1, together, dimensions]), [1, 0, 2, 3])
        return tf.reshape(features, [-1, batches * together, dimensions])[:, :count]


class Scorer:
    """Computes anomaly scores of patches from their features, see `PatchDetector.embed`.

    Args:
        density: density of patches.
        settings: settings of the density.
        keep: stores its arrays.
        number: dtype of its arithmetic, float64 or float32.
        loops: see `each`.
    """

    def __init__(self, density: PatchDensity, settings: DensitySettings, keep: Weights, number: Any, *, loops: bool):
        self._peak, self._settings, self._number, self._loops = density.peak, settings, number, loops
        arrays = density.to_arrays()
        self._is_shared = not isinstance(density, PerLocationGaussian)
        if self._is_shared:
            self._density = GRAPHS[settings.density](arrays, keep)
            return
        self._locations = len(arrays["mean"])
        self._batches = math.ceil(self._locations / _LOCATIONS)
        self._means = keep(self._batched(arrays["mean"])[:, :, None], "means")
        # Added inside the loop below: LiteRT's converter got the sign wrong when subtracting the sum from a constant.
        self._offsets = keep(density.peak - self._batched(arrays["peak"])[:, :, None], "offsets")
        factors = self._batched(arrays["factor"])
        # Keep the dtype they were saved in, which may be half as large.
        self._factors = variables.keep(factors, "factors", factors.dtype)

    def __call__(self, features: Any) -> Any:
        """Scores float32 [count, locations] from features float32 [count, locations, dimensions]; 0: most normal."""
        return tf.cast(self._by_image(features) if self._is_shared else self._by_location(features), tf.float32)

    def _prepared(self, features: Any) -> Any:
        features = tf.cast(features, self._number)
        return unit(features) if self._settings.l2_normalize else features

    def _by_image(self, features: Any) -> Any:
        def score(features: Any) -> Any:
            return self._peak - self._density.log_density(self._prepared(features))

        if self._loops:
            count = tf.shape(features)[0]
            scores = each(lambda index: score(tf.gather(features, index)), count, self._number, loops=True)
        else:
            scores = score(tf.reshape(features, [-1, features.shape[-1]]))
        return tf.reshape(scores, [-1, features.shape[1]])

    def _by_location(self, features: Any) -> Any:
        missing = self._batches * _LOCATIONS - self._locations
        padded = tf.transpose(tf.pad(features, [[0, 0], [0, missing], [0, 0]]), [1, 0, 2])
        batches = tf.reshape(padded, [self._batches, _LOCATIONS, -1, features.shape[-1]])

        def score(index: Any) -> Any:
            centered = self._prepared(tf.gather(batches, index)) - tf.gather(self._means, index)
            factors = tf.cast(tf.gather(self._factors, index), self._number)
            along = tf.linalg.matmul(centered, factors, transpose_b=True)
            distance = tf.reduce_sum(centered**2, axis=-1) / self._settings.reg_covar - tf.reduce_sum(along**2, axis=-1)
            return tf.gather(self._offsets, index) + 0.5 * tf.maximum(distance, 0)

        scores = each(score, self._batches, self._number, loops=self._loops)
        return tf.transpose(tf.reshape(scores, [self._batches * _LOCATIONS, -1])[: self._locations])

    def _batched(self, array: np.ndarray) -> np.ndarray:
        missing = self._batches * _LOCATIONS - self._locations
        padded = np.pad(array, [(0, missing), *((0, 0) for _ in array.shape[1:])])
        return padded.reshape(self._batches, _LOCATIONS, *array.shape[1:])


def each(function: Callable[[Any], Any], count: Any, dtype: Any, *, loops: bool) -> Any:
    """Stacks the results of a function for 0 to count - 1.

    Args:
        function: int32 scalar -> a tensor.
        count: number of results.
        dtype: dtype of the tensor.
        loops: whether to use a loop in the graph, which limits memory; otherwise the graph is unrolled, for formats
            without loops, and `count` must be a Python int.
    """
    if not loops:
        return tf.stack([function(index) for index in range(count)])
    return tf.map_fn(function, tf.range(count), fn_output_signature=dtype, parallel_iterations=1)
