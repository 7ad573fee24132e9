"""The image model as a graph, see `detection.image_detector`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cutpaste_tf.backend import keras, tf
from cutpaste_tf.density.density import Density
from cutpaste_tf.detection.graphs import densities, resizing, variables
from cutpaste_tf.detection.graphs.graph import number_format
from cutpaste_tf.settings.config import Config


class ImageGraph:
    """Log density of the pooled feature, and GradCAM on the map it pools, with the gradient from the density.

    Args:
        feature: image in [0, 1] -> pooled feature.
        config: configuration of the detector.
        density: fitted density.
        region: bool [height, width], the part of the images that counts; None: all of it.
        single: whether density and maps use single precision.
    """

    def __init__(
        self,
        feature: keras.Model,
        config: Config,
        density: Density,
        *,
        region: np.ndarray | None = None,
        single: bool,
    ):
        self._number, size = number_format(single=single), config.data.size
        if single:
            variables.keep_normalization(feature)
        pool = feature.get_layer("pool")
        self._network = keras.Model(feature.input, [pool.input, pool.output])
        self._density = densities.Scaled(config.density.density, density, self._keep)
        self._region = None if region is None else variables.keep(region, "region", tf.float32)
        places = self._network.compute_output_shape((1, *size, 3))[0][1:3]
        self._enlarge = [
            self._keep(resizing.matrix(length, pixels), name)
            for length, pixels, name in zip(places, size, ("rows", "columns"), strict=True)
        ]

    def embed(self, images: Any, to_unit_range: Any) -> Any:
        """The map that the feature pools, and the feature."""
        return self._network(to_unit_range(images), training=False)

    def negative_log_density(self, embedded: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.negative_log_density`."""
        activations, pooled = embedded
        features = tf.cast(pooled, self._number)
        score = -self._density.log_density(features)
        rows, columns = self._enlarge
        height, width, channels = rows.shape[1], columns.shape[1], activations.shape[-1]
        weights = self._density.score_slope(features) / (height * width)
        # Not tf.einsum, since OpenVINO cannot read what it is converted to.
        places = tf.reshape(tf.cast(activations, self._number), [-1, height * width, channels])
        maps = tf.reshape(tf.linalg.matvec(places, weights), [-1, height, width])
        maps = tf.cast(tf.nn.relu(maps), tf.float32)
        narrowed = tf.linalg.matmul(tf.cast(maps, self._number), columns, transpose_b=True)
        narrowed = tf.cast(tf.cast(narrowed, tf.float32), self._number)  # as Pillow does between its two passes
        maps = tf.cast(tf.linalg.matmul(rows, narrowed), tf.float32)
        return score, maps if self._region is None else maps * self._region

    def reduce(self, densities: Any, maps: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.reduce`."""
        return densities, maps

    def _keep(self, array: np.ndarray, name: str) -> Any:
        return variables.keep(array, name, self._number)
