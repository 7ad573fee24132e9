"""Metrics for heat maps: pixel AUROC and the area under the per-region overlap (Section 4.2)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cutpaste_tf import arrays
from cutpaste_tf.images import regions
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL

PRO_LIMIT = 0.3  # false positive rate up to which MVTec AD integrates the per-region overlap


def pixel_metrics(
    maps: np.ndarray,
    masks: Sequence[np.ndarray | None],
    labels: np.ndarray,
    defects: Sequence[str],
    images: np.ndarray | None = None,
    *,
    limit: float = PRO_LIMIT,
) -> dict[str, Any]:
    """Pixel AUROC and AUPRO in percent, over all images and for each kind of defect with the normal images.

    The values are exact. Memory grows only with the defects' pixels (some 60 bytes each), so maps may be in a file.

    Args:
        maps: float32 [count, height, width], higher = more anomalous.
        masks: bool [height, width] of each image; an anomalous image without a mask, or with an empty one, is ignored.
        labels: [count], 0 normal, 1 anomalous; others are ignored.
        defects: name of each image's defect.
        images: uint8 [count, height, width, 3] that carry regions, see `images.regions`; pixels outside do not count.
        limit: false positive rate up to which the per-region overlap is integrated.

    Returns:
        `pixel_auroc`, `aupro`, both also with `_by_defect`, and how many images were ignored. AUCs are None if there
        are no masks or only one class of pixels.
    """
    masked = [index for index in np.flatnonzero(labels == ANOMALOUS).tolist() if has_defect(masks[index])]
    normal = np.flatnonzero(labels == NORMAL).tolist()
    result: dict[str, Any] = {"pixel_auroc": None, "aupro": None, "pixel_auroc_by_defect": {}, "aupro_by_defect": {}}
    result["anomalous_without_mask"] = without_mask(masks, labels)
    if not masked:
        return result
    result["pixel_auroc"], result["aupro"] = _areas(maps, masks, masked, normal, images, limit)
    for defect in sorted({defects[index] for index in masked}):
        chosen = [index for index in masked if defects[index] == defect]
        both = _areas(maps, masks, chosen, normal, images, limit)
        result["pixel_auroc_by_defect"][defect], result["aupro_by_defect"][defect] = both
    return result


def has_defect(mask: np.ndarray | None) -> bool:
    """Whether there is a mask that marks at least one pixel."""
    return mask is not None and bool(mask.any())


def without_mask(masks: Sequence[np.ndarray | None], labels: np.ndarray) -> int:
    """Number of anomalous images without a mask, or with an empty one."""
    return sum(not has_defect(masks[index]) for index in np.flatnonzero(labels == ANOMALOUS).tolist())


def _areas(
    maps: np.ndarray,
    masks: Sequence[Any],
    masked: Sequence[int],
    normal: Sequence[int],
    images: np.ndarray | None,
    limit: float,
) -> tuple[float | None, float | None]:
    """(pixel AUROC, AUPRO) in percent; `masked` are the images that have a mask."""
    scores, weights = [], []
    for index in masked:
        mask = masks[index]
        # Regions as in MVTec's evaluation: pixels that share a side or a corner are connected.
        parts = np.asarray(ndimage.label(mask, np.ones((3, 3)))[0])  # type: ignore[index]
        scores.append(maps[index][mask])
        weights.append(1.0 / np.bincount(parts.ravel())[parts[mask]])  # pyright: ignore[reportArgumentType, reportCallIssue]
    positives, by_region = np.concatenate(scores), np.concatenate(weights)

    def counted(index: int) -> np.ndarray | bool:
        return True if images is None else regions.inside(images[index])

    def negatives() -> Iterable[np.ndarray]:
        for index in masked:
            yield maps[index][~masks[index] & counted(index)]
            arrays.release(maps)
        for index in normal:
            yield maps[index].ravel() if images is None else maps[index][counted(index)]
            arrays.release(maps)

    order = np.argsort(positives, kind="stable")
    positives, by_region = positives[order], by_region[order]
    rates = _false_positive_rates(positives, negatives())
    if rates is None:
        return None, None
    auroc = _area_under(*rates, np.ones(len(positives)), 1.0)
    return 100 * auroc, 100 * _area_under(*rates, by_region, limit)


def _false_positive_rates(
    thresholds: np.ndarray, negatives: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The fractions of negatives above, and not below, each of the sorted thresholds; None without any of these."""
    above = np.zeros(len(thresholds) + 1, np.int64)
    not_below = np.zeros(len(thresholds) + 1, np.int64)
    for chunk in negatives:
        above += np.bincount(np.searchsorted(thresholds, chunk, "left"), minlength=len(above))
        not_below += np.bincount(np.searchsorted(thresholds, chunk, "right"), minlength=len(above))
    total = above.sum()
    if not len(thresholds) or not total:
        return None
    return 1 - np.cumsum(above)[:-1] / total, 1 - np.cumsum(not_below)[:-1] / total


def _area_under(low: np.ndarray, high: np.ndarray, weights: np.ndarray, limit: float) -> float:
    """Area under the curve of detected weight over false positive rates up to a limit; at best 1.

    A positive is detected once the false positive rate reaches that of the negatives above it. Where negatives tie
    with it, the curve is a straight line from `low` to `high`.
    """

    def beyond(rate: np.ndarray) -> np.ndarray:
        return np.maximum(limit - rate, 0)

    width = high - low
    sloped = (beyond(low) ** 2 - beyond(high) ** 2) / (2 * np.where(width > 0, width, 1))
    areas = np.where(width > 0, sloped, beyond(low))
    return float(np.sum(weights * areas) / (np.sum(weights) * limit))
