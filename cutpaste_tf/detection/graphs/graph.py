"""A detector as one graph: pixels -> anomaly score and heat map, p-value and decision."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cutpaste_tf.backend import tf
from cutpaste_tf.detection.graphs import variables


class Outputs(NamedTuple):
    """The outputs of a graph for images.

    Attributes:
        score: float64 [count], higher = more anomalous; float32 in single precision.
        p_value: p-value of the score, with the same dtype, see `calibration.Calibration`.
        is_anomalous: bool [count], whether the score is above the threshold.
        heat_map: float32 [count, height, width].
    """

    score: Any
    p_value: Any
    is_anomalous: Any
    heat_map: Any


class DetectorGraph(Protocol):
    """The steps of `detector.Detector` as graphs."""

    def embed(self, images: Any, to_unit_range: Any) -> Any:
        """The network's features of images uint8 [count, height, width, 3].

        Args:
            images: the images.
            to_unit_range: converts pixels to float32 in [0, 1].
        """
        ...

    def negative_log_density(self, embedded: Any) -> tuple[Any, Any]:
        """Negative log densities from the result of `embed`, and heat maps if `reduce` makes none."""
        ...

    def reduce(self, densities: Any, maps: Any) -> tuple[Any, Any]:
        """Scores [count] and heat maps float32 [count, height, width]."""
        ...


class Graph:
    """Scores images like a detector; its arrays are variables.

    Args:
        detector: the detector's own graph.
        normal_scores: float64 [n], the sorted scores of its calibration.
        threshold: the score above which an image is anomalous.
        region: bool [height, width], the part of the images that counts; None: all of it.
        single: whether p-values use single precision.
    """

    def __init__(
        self,
        detector: DetectorGraph,
        normal_scores: np.ndarray,
        threshold: float,
        *,
        region: np.ndarray | None = None,
        single: bool = False,
    ):
        self._detector, self._number = detector, number_format(single=single)
        # Dividing in the graph would change the last bit.
        self._table = variables.keep(np.arange(256).astype(np.float32) / 255, "unit_range")
        self._normal_scores = variables.keep(normal_scores, "calibration", self._number)
        self._region: Any = None if region is None else variables.keep(region[..., None], "inside", tf.int32)
        self._threshold = variables.keep(np.array(threshold), "threshold", self._number)

    def __call__(self, images: Any) -> Outputs:
        """Scores images uint8 [count, height, width, 3]."""
        if self._region is not None:
            images = self._blanked(images)
        embedded = self._detector.embed(images, self._to_unit_range)
        score, heat_map = self._detector.reduce(*self._detector.negative_log_density(embedded))
        at_least = tf.reduce_sum(tf.cast(self._normal_scores >= score[:, None], self._number), axis=1)
        p_value = (at_least + 1) / (self._normal_scores.shape[0] + 1)
        return Outputs(score, p_value, score > self._threshold, heat_map)

    def _blanked(self, images: Any) -> Any:
        """See `images.regions.blank`."""
        inside = tf.cast(images, tf.int32) * self._region
        is_black = tf.cast(tf.reduce_max(inside, axis=-1, keepdims=True) < 1, tf.int32)
        return tf.cast(inside + is_black * self._region * tf.constant([0, 0, 1]), tf.uint8)

    def _to_unit_range(self, images: Any) -> Any:
        return tf.gather(self._table, tf.cast(images, tf.int32))


class MeanGraph:
    """An ensemble: the mean of its members' log densities and heat maps."""

    def __init__(self, members: list[DetectorGraph]):
        self._members = members

    def embed(self, images: Any, to_unit_range: Any) -> Any:
        """The list of the members' results."""
        return [member.embed(images, to_unit_range) for member in self._members]

    def negative_log_density(self, embedded: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.negative_log_density`."""
        pairs = zip(self._members, embedded, strict=True)
        densities, maps = zip(*(member.negative_log_density(each) for member, each in pairs), strict=True)
        mean = None if maps[0] is None else tf.add_n(list(maps)) / len(maps)
        return tf.add_n(list(densities)) / len(densities), mean

    def reduce(self, densities: Any, maps: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.reduce`."""
        return self._members[0].reduce(densities, maps)


class CombinedGraph:
    """A combination: the mean of its members' standardized scores and heat maps.

    Args:
        members: the graphs of its members.
        embeddings: what determines the embedding of each member; it is computed once for those with the same.
        standards: mean, deviation and heat of each member, see `combination.Standard`.
        single: whether scores use single precision.
    """

    def __init__(
        self,
        members: list[DetectorGraph],
        embeddings: Sequence[Hashable],
        standards: Sequence[tuple[float, float, float]],
        *,
        single: bool,
    ):
        self._members, self._embeddings, number = members, embeddings, number_format(single=single)
        self._standards = [
            (variables.keep(np.array(mean), "mean", number), variables.keep(np.array(deviation), "deviation", number))
            for mean, deviation, _ in standards
        ]
        self._heats = {
            index: variables.keep(np.array(heat), "heat", tf.float32)
            for index, (*_, heat) in enumerate(standards)
            if heat
        }

    def embed(self, images: Any, to_unit_range: Any) -> Any:
        """The list of the members' results."""
        by = dict(zip(self._embeddings, self._members, strict=True))
        computed = {embedding: member.embed(images, to_unit_range) for embedding, member in by.items()}
        return [computed[embedding] for embedding in self._embeddings]

    def negative_log_density(self, embedded: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.negative_log_density`; returns lists of the members' results."""
        every = [member.negative_log_density(each) for member, each in zip(self._members, embedded, strict=True)]
        return [densities for densities, _ in every], [maps for _, maps in every]

    def reduce(self, densities: Any, maps: Any) -> tuple[Any, Any]:
        """See `DetectorGraph.reduce`."""
        rows = zip(self._members, densities, maps, strict=True)
        scores, heat_maps = zip(*(member.reduce(of_member, own) for member, of_member, own in rows), strict=True)
        standardized = [
            (score - mean) / deviation for score, (mean, deviation) in zip(scores, self._standards, strict=True)
        ]
        heat = [heat_maps[index] / median for index, median in self._heats.items()] or heat_maps[:1]
        return tf.add_n(standardized) / len(standardized), tf.add_n(list(heat)) / len(heat)


def number_format(*, single: bool) -> Any:
    """The dtype of densities and maps: double precision as in the evaluation, or single."""
    return tf.float32 if single else tf.float64
