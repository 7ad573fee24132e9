"""Predictions for single images: score, p-value, decision, heat map, and boxes around hot regions."""

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from cutpaste_tf.detection.calibration import Decisions


class Box(NamedTuple):
    """The box around a region whose heat is above the pixel threshold, in pixels of the image at its original size.

    Attributes:
        left: column of its first pixel, counted from 0.
        top: row of its first pixel, counted from 0.
        width: number of columns.
        height: number of rows.
        heat: the maximum in the region.
    """

    left: int
    top: int
    width: int
    height: int
    heat: float


class Prediction(NamedTuple):
    """The prediction for an image.

    Attributes:
        score: anomaly score, higher = more anomalous.
        p_value: the fraction of normal images that score as high, see `Calibration.p_values`; None, like
            `is_anomalous`, if the detector has no scores of normal images.
        is_anomalous: whether the score is above the threshold.
        boxes: for a patch model, the regions above its pixel threshold, hottest first; None for an image model, whose
            GradCAM maps do not share a scale.
        heat_map: float32 [height, width], 0 and above, at the detector's size, or at the image's if it comes from
            `Detector.predict`; None if not requested.
    """

    score: float
    p_value: float | None
    is_anomalous: bool | None
    boxes: tuple[Box, ...] | None
    heat_map: np.ndarray | None

    @property
    def decision(self) -> str:
        """`anomalous` or `normal`; empty if unknown."""
        return "" if self.is_anomalous is None else "anomalous" if self.is_anomalous else "normal"


def of(
    scores: np.ndarray,
    maps: np.ndarray | None,
    sizes: list[tuple[int, int]],
    decisions: Decisions | None,
    pixel_threshold: float | None,
) -> list[Prediction]:
    """Predictions from scores and heat maps.

    Args:
        scores: float64 [count].
        maps: float32 [count, height, width], or None.
        sizes: (width, height) of the images before resizing; boxes are in these pixels.
        decisions: the decisions; None if no threshold is known.
        pixel_threshold: the heat above which pixels are anomalous, see `Detector.pixel_threshold`.
    """
    p_values: list[float | None] = [None] * len(scores)
    decided: list[bool | None] = [None] * len(scores)
    if decisions is not None:
        p_values, decided = decisions.p_values.tolist(), decisions.anomalous.tolist()
    predictions = []
    for index, size in enumerate(sizes):
        heat = None if maps is None else maps[index]
        image_boxes = boxes(heat, pixel_threshold, size) if heat is not None and pixel_threshold is not None else None
        predictions.append(Prediction(float(scores[index]), p_values[index], decided[index], image_boxes, heat))
    return predictions


def boxes(heat: np.ndarray, limit: float, size: tuple[int, int]) -> tuple[Box, ...]:
    """Boxes around the connected regions of a heat map [height, width] above a limit, hottest first.

    Args:
        heat: the heat map.
        limit: heat above which a pixel belongs to a region.
        size: (width, height) of the image that the boxes are for.
    """
    labelled: Any = ndimage.label(heat > limit)
    regions, _ = labelled
    result: list[Box] = []
    for number, place in enumerate(ndimage.find_objects(regions), 1):
        rows, columns = place
        most = heat[place].max(where=regions[place] == number, initial=limit)
        left, right = _stretched(columns, heat.shape[1], size[0])
        top, bottom = _stretched(rows, heat.shape[0], size[1])
        result.append(Box(left, top, right - left, bottom - top, float(most)))
    return tuple(sorted(result, key=lambda box: -box.heat))


def _stretched(part: slice, places: int, pixels: int) -> tuple[int, int]:
    """The range of pixels [start, stop) covered by a slice of an axis with `places` places."""
    return part.start * pixels // places, -(-part.stop * pixels // places)
