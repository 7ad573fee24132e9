"""A detector as one graph: pixels -> anomaly score and heat map, p-value and decision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf.backend import keras, tf
from cutpaste_tf.density.density import Density
from cutpaste_tf.detection import dense, heat_maps
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.exporting import densities, patches, resizing, variables


class Outputs(NamedTuple):
    """What a graph gives for images.

    Attributes:
        score: float64 [count], higher = more anomalous; in single precision float32.
        p_value: of the score, in the same format, see `calibration.Calibration`.
        is_anomalous: bool [count], whether the score is above the threshold.
        heat_map: float32 [count, side, side].
    """

    score: Any
    p_value: Any
    is_anomalous: Any
    heat_map: Any


class Graph:
    """Scores images as `detector.Detector` does; built once, its arrays lie in variables.

    Args:
        detector: with a calibration.
        threshold: above which a score is anomalous.
        single: whether density and maps compute in single precision, without loops, for one image at a time.
    """

    def __init__(self, detector: Detector, threshold: float, *, single: bool = False):
        config, density = detector.config, detector.density
        self._config, self._number = config, tf.float32 if single else tf.float64
        self._side = config.data.image_size
        # Division in a graph changes the last bit.
        self._table = variables.keep(np.arange(256).astype(np.float32) / 255, "unit_range")
        assert detector.calibration is not None
        self._calibration = self._keep(detector.calibration.scores, "calibration")
        self._threshold = self._keep(np.array(threshold), "threshold")
        if isinstance(density, Density):
            pool = detector.feature.get_layer("pool")
            self._network = keras.Model(detector.feature.input, [pool.input, pool.output])
            self._density = densities.Scaled(config.density.density, density, self._keep)
            size = self._network.compute_output_shape((1, self._side, self._side, 3))[0][1:3]
            self._enlarge = [
                self._keep(resizing.matrix(length, self._side), name)
                for length, name in zip(size, ("rows", "columns"), strict=True)
            ]
        else:
            loops = not single
            self._embed = patches.Embedder(detector.feature, self._side, config.features, loops=loops)
            self._score = patches.Scorer(density, config.density, self._keep, self._number, loops=loops)
            self._places = dense.places(self._side, config.features)
            spread = heat_maps.spreading(self._places, self._side, config.features, config.heat_maps)
            self._spread = self._keep(spread, "spreading")

    def __call__(self, images: Any) -> Outputs:
        """Scores images uint8 [count, side, side, 3]."""
        score, heat_map = self._of_patches(images) if self._config.patch_size else self._of_images(images)
        at_least = tf.reduce_sum(tf.cast(self._calibration >= score[:, None], self._number), axis=1)
        p_value = (at_least + 1) / (self._calibration.shape[0] + 1)
        return Outputs(score, p_value, score > self._threshold, heat_map)

    def _of_images(self, images: Any) -> tuple[Any, Any]:
        """Scores, and GradCAM of the map that the feature pools: there the slope is the density's own."""
        activations, pooled = self._network(self._to_unit_range(images), training=False)
        features = tf.cast(pooled, self._number)
        score = -self._density.log_density(features)
        rows, columns = self._enlarge
        height, width, channels = rows.shape[1], columns.shape[1], activations.shape[-1]
        weights = self._density.score_slope(features) / (height * width)
        # A product of matrices: OpenVINO cannot read what becomes of tf.einsum.
        places = tf.reshape(tf.cast(activations, self._number), [-1, height * width, channels])
        maps = tf.reshape(tf.linalg.matvec(places, weights), [-1, height, width])
        maps = tf.cast(tf.nn.relu(maps), tf.float32)
        narrowed = tf.linalg.matmul(tf.cast(maps, self._number), columns, transpose_b=True)
        narrowed = tf.cast(tf.cast(narrowed, tf.float32), self._number)  # as Pillow does between its two passes
        return score, tf.cast(tf.linalg.matmul(rows, narrowed), tf.float32)

    def _of_patches(self, images: Any) -> tuple[Any, Any]:
        scores = self._score(self._embed(images, self._to_unit_range))
        scores = tf.reshape(scores, [-1, self._places, self._places])
        spread = tf.linalg.matmul(self._spread, tf.cast(scores, self._number))
        maps = tf.cast(tf.linalg.matmul(spread, self._spread, transpose_b=True), tf.float32)
        chosen = {"map": maps, "patches": scores}[self._config.heat_maps.image_score]
        return tf.cast(tf.reduce_max(chosen, axis=[1, 2]), self._number), maps

    def _to_unit_range(self, images: Any) -> Any:
        return tf.gather(self._table, tf.cast(images, tf.int32))

    def _keep(self, array: np.ndarray, name: str) -> Any:
        return variables.keep(array, name, self._number)
