"""A patch model as a graph: images -> anomaly scores of their patches, as `detection.dense` and `density.patch_density`
make them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cutpaste_tf.backend import keras, tf
from cutpaste_tf.density.patch_density import PatchDensity, PerLocationGaussian
from cutpaste_tf.detection import dense
from cutpaste_tf.exporting import variables
from cutpaste_tf.exporting.densities import Mixture, Weights, unit
from cutpaste_tf.settings.density import DensitySettings
from cutpaste_tf.settings.scoring import FeatureSettings

_LOCATIONS = 64  # scored together


class Embedder:
    """Features of images' patches.

    Args:
        feature: image in [0, 1] -> pooled feature.
        side: of the images, in pixels.
        settings: extract_size, stride, dense.
        loops: see `each`.
    """

    def __init__(self, feature: keras.Model, side: int, settings: FeatureSettings, *, loops: bool):
        self._settings, self._side, self._loops = settings, side, loops
        is_fast = settings.dense == "fast"
        self._network: Any = dense.fully_convolutional(feature, side, settings) if is_fast else feature

    def __call__(self, images: Any, to_unit_range: Callable[[Any], Any]) -> Any:
        """Features float32 [count, locations, dimensions]; one image after the other, to bound the memory.

        Args:
            images: uint8 [count, side, side, 3].
            to_unit_range: makes float32 in [0, 1] of them.
        """
        embed = self._fast if self._settings.dense == "fast" else self._exact
        locations = dense.places(self._side, self._settings) ** 2

        def one(index: Any) -> Any:
            return embed(tf.gather(images, index)[None], to_unit_range)

        count = tf.shape(images)[0] if images.shape[0] is None else images.shape[0]
        features = each(one, count, tf.float32, loops=self._loops)
        return tf.reshape(features, [-1, locations, self._network.output.shape[-1]])

    def _fast(self, image: Any, to_unit_range: Callable[[Any], Any]) -> Any:
        return self._network(to_unit_range(image), training=False)

    def _exact(self, image: Any, to_unit_range: Callable[[Any], Any]) -> Any:
        size, places = self._settings.extract_size, dense.places(self._side, self._settings)
        count, together = places**2, dense.batch_size(self._side, self._settings)
        batches = math.ceil(count / together)
        along = (np.arange(places)[:, None] * self._settings.stride + np.arange(size)).ravel()
        cut = tf.reshape(tf.gather(tf.gather(image[0], along, axis=0), along, axis=1), [places, size, places, size, 3])
        patches = tf.reshape(tf.transpose(cut, [0, 2, 1, 3, 4]), [count, size, size, 3])
        patches = tf.pad(patches, [[0, batches * together - count], [0, 0], [0, 0], [0, 0]])
        patches = tf.reshape(patches, [batches, together, size, size, 3])

        def one(index: Any) -> Any:
            return self._network(to_unit_range(tf.gather(patches, index)), training=False)

        features = each(one, batches, tf.float32, loops=self._loops)
        return tf.reshape(features, [batches * together, self._network.output.shape[-1]])[:count]


class Scorer:
    """Anomaly scores of patches from their features, see `one_class.score_patches`.

    Args:
        density: of patches.
        settings: of it.
        keep: what keeps its arrays.
        number: the number format of its arithmetic, float64 or float32.
        loops: see `each`.
    """

    def __init__(self, density: PatchDensity, settings: DensitySettings, keep: Weights, number: Any, *, loops: bool):
        self._peak, self._settings, self._number, self._loops = density.peak, settings, number, loops
        arrays = density.to_arrays()
        self._is_shared = not isinstance(density, PerLocationGaussian)
        if self._is_shared:
            self._density = Mixture(arrays, keep)
            return
        self._locations = len(arrays["mean"])
        self._batches = math.ceil(self._locations / _LOCATIONS)
        self._means = keep(self._batched(arrays["mean"])[:, :, None], "means")
        # Added inside the loop below: LiteRT's converter changed the sign of a constant less what all of it gave.
        self._offsets = keep(density.peak - self._batched(arrays["peak"])[:, :, None], "offsets")
        factors = self._batched(arrays["factor"])
        # In the format that they were kept in, which may be half as large.
        self._factors = variables.keep(factors, "factors", factors.dtype)

    def __call__(self, features: Any) -> Any:
        """Scores float32 [count, locations] of features float32 [count, locations, dimensions]; 0: most normal."""
        return tf.cast(self._by_image(features) if self._is_shared else self._by_location(features), tf.float32)

    def _prepared(self, features: Any) -> Any:
        features = tf.cast(features, self._number)
        return unit(features) if self._settings.l2_normalize else features

    def _by_image(self, features: Any) -> Any:
        def score(index: Any) -> Any:
            return self._peak - self._density.log_density(self._prepared(tf.gather(features, index)))

        count = tf.shape(features)[0] if features.shape[0] is None else features.shape[0]
        return tf.reshape(each(score, count, self._number, loops=self._loops), tf.shape(features)[:2])

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
    """What a function gives for 0 to count - 1, stacked.

    Args:
        function: int32 scalar -> a tensor.
        count: how many.
        dtype: of the tensor.
        loops: whether by a loop in the graph, which bounds the memory; else by a copy of the graph for each, for
            formats that have no loops: the count must then be a plain number.
    """
    if not loops:
        return tf.stack([function(index) for index in range(count)])
    return tf.map_fn(function, tf.range(count), fn_output_signature=dtype, parallel_iterations=1)
