import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score, roc_curve

from cutpaste_tf.evaluation import pixel_metrics


def _random_case(rng, count=6, side=24, levels=None):
    maps = rng.random((count, side, side)).astype(np.float32)
    if levels:
        maps = np.floor(maps * levels).astype(np.float32)
    masks = [rng.random((side, side)) < 0.05 for _ in range(count)]
    labels = np.array([1, 1, 1, 1, 0, 0])[:count]
    masks = [mask if label else None for mask, label in zip(masks, labels, strict=True)]
    return maps, masks, labels, ["a", "a", "b", "b", "good", "good"][:count]


@pytest.mark.parametrize("levels", [None, 10])
def test_pixel_auroc_is_scikit_learns(levels):
    maps, masks, labels, defects = _random_case(np.random.default_rng(1), levels=levels)
    truth = np.stack([np.zeros(maps[0].shape, bool) if mask is None else mask for mask in masks])
    result = pixel_metrics.pixel_metrics(maps, masks, labels, defects)
    assert result["pixel_auroc"] == pytest.approx(100 * roc_auc_score(truth.ravel(), maps.ravel()))
    chosen = [0, 1, 4, 5]
    expected = 100 * roc_auc_score(truth[chosen].ravel(), maps[chosen].ravel())
    assert result["pixel_auroc_by_defect"]["a"] == pytest.approx(expected)
    assert set(result["aupro_by_defect"]) == {"a", "b"}
    assert result["anomalous_without_mask"] == 0


@pytest.mark.parametrize("levels", [None, 10])
def test_aupro_is_the_mean_overlap_integrated_to_0_3(levels):
    """Against the definition: every threshold, every region."""
    maps, masks, labels, defects = _random_case(np.random.default_rng(2), levels=levels)
    normal = np.concatenate([maps[i][~masks[i]] if masks[i] is not None else maps[i].ravel() for i in range(6)])
    regions = []
    for heat, mask in zip(maps, masks, strict=True):
        if mask is not None:
            names, number = ndimage.label(mask, np.ones((3, 3)))
            regions += [heat[names == region] for region in range(1, number + 1)]
    thresholds = np.unique(maps)[::-1]
    rates = np.array([0.0] + [np.mean(normal >= t) for t in thresholds])
    overlaps = np.array([0.0] + [np.mean([np.mean(region >= t) for region in regions]) for t in thresholds])
    inside = rates <= 0.3
    x = np.append(rates[inside], 0.3)
    y = np.append(overlaps[inside], np.interp(0.3, rates, overlaps))
    expected = 100 * np.trapezoid(y, x) / 0.3
    aupro = pixel_metrics.pixel_metrics(maps, masks, labels, defects)["aupro"]
    assert aupro == pytest.approx(expected, rel=1e-9)


def test_aupro_of_cases_made_by_hand():
    """Ten normal pixels and two regions: one of one pixel, one of four."""
    mask = np.zeros((3, 5), bool)
    mask[0, 0] = mask[1:3, 3:5] = True
    heat = np.zeros((3, 5), np.float32)

    def aupro(heat):
        return pixel_metrics.pixel_metrics(heat[None], [mask], np.array([1]), ["a"])["aupro"]

    heat[mask] = 2
    assert aupro(heat) == pytest.approx(100)
    heat[1:3, 3:5] = -1  # the larger region is found last: beyond the limit
    assert aupro(heat) == pytest.approx(50)
    heat[2, 3:5] = 2  # half of it is found
    assert aupro(heat) == pytest.approx(75)
    heat[0, 1] = 3  # one of ten normal pixels comes first: the curve begins at 0.1
    assert aupro(heat) == pytest.approx(75 * 2 / 3)
    # All tie: the curve is the diagonal.
    assert aupro(np.zeros((3, 5), np.float32)) == pytest.approx(15)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.zeros((3, 4), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 3] = True  # two regions
    heat = np.zeros((3, 4), np.float32)
    heat[2, 3] = 1
    heat[0, 0] = heat[1, 1] = -1
    result = pixel_metrics.pixel_metrics(heat[None], [mask], np.array([1]), ["a"])
    assert result["aupro"] == pytest.approx(50)


def test_images_without_masks_are_left_out_and_counted():
    maps, masks, labels, defects = _random_case(np.random.default_rng(3))
    with_masks = pixel_metrics.pixel_metrics(maps[[0, 1, 4, 5]], [masks[i] for i in (0, 1, 4, 5)], labels[[0, 1, 4, 5]],
                                       [defects[i] for i in (0, 1, 4, 5)])  # fmt: skip
    part = pixel_metrics.pixel_metrics(maps, [*masks[:2], None, None, None, None], labels, defects)
    assert part["anomalous_without_mask"] == 2
    assert part["pixel_auroc"] == with_masks["pixel_auroc"]
    none = pixel_metrics.pixel_metrics(maps, [None] * 6, labels, defects)
    assert (none["pixel_auroc"], none["aupro"], none["anomalous_without_mask"]) == (None, None, 4)


def test_a_curve_s_area_agrees_with_its_points():
    rng = np.random.default_rng(4)
    truth, scores = rng.random(500) < 0.2, rng.integers(0, 30, 500).astype(np.float32)
    rates = pixel_metrics._false_positive_rates(np.sort(scores[truth]), [scores[~truth][:100], scores[~truth][100:]])
    x, y, _ = roc_curve(truth, scores, drop_intermediate=False)
    x, y = np.append(x[x < 0.5], 0.5), np.append(y[x < 0.5], np.interp(0.5, x, y))
    area = pixel_metrics._area_under(*rates, np.ones(truth.sum()), 0.5)
    assert area == pytest.approx(np.trapezoid(y, x) / 0.5)
