"""Synthetic anomalies: shapes, fills, masks, and the files they are written to."""

from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from PIL import Image

import cutpaste_tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import reading, sources, synthetic
from cutpaste_tf.images.synthetic import SyntheticOptions

# Part of its box that a shape covers: a square with half the box's diagonal, an ellipse of axes 2 : 1, a heart.
AREAS = {"square": 0.5, "ellipse": np.pi / 8, "heart": 0.503}


def normal(count=6, side=96):
    pixels = np.full((count, side, side, 3), 100, np.uint8)
    paths = [f"test/good/{i}.png" for i in range(count)]
    return reading.Examples(pixels, paths, np.zeros(count, np.int32), ["good"] * count, [None] * count, "")


def make(examples, shape, fill="color", seed=0):
    natural, _ = synthetic.read_natural("")
    digits, _ = synthetic.read_digits(Path("none"))
    return synthetic.make(examples, shape, fill, seed=seed, natural=natural, digits=digits)


@pytest.mark.parametrize("shape", synthetic.SHAPES)
@pytest.mark.parametrize("fill", synthetic.FILLS)
def test_twins_differ_under_the_mask_only(shape, fill):
    anomalies = make(normal(), shape, fill)
    np.testing.assert_array_equal(anomalies.labels, [0] * 6 + [1] * 6)
    assert anomalies.defects == ["good"] * 6 + [shape] * 6
    assert anomalies.masks[:6] == [None] * 6
    for before, after, mask in zip(anomalies.images[:6], anomalies.images[6:], anomalies.masks[6:], strict=True):
        change = np.abs(after.astype(int) - before).max(-1)
        assert 10 < mask.sum() < (0.3 * 96) ** 2 + 1
        assert change[~mask].max() <= 0.05 * 255 + 1
        colors = np.unique(after[mask], axis=0)
        assert change[mask].mean() > 3
        rows, columns = np.nonzero(mask)
        if shape != "mnist" and fill == "color":  # one color in the middle
            center = after[rows.min() + np.ptp(rows) // 2, columns.min() + np.ptp(columns) // 2]
            assert np.mean(np.all(after[mask] == center, axis=-1)) > 0.4
        elif fill == "image":
            assert len(colors) > 10


@pytest.mark.parametrize("shape", AREAS)
def test_shapes_have_their_area_at_any_angle(shape):
    """The box is wholly used: nothing of a turned shape is cut off."""
    for seed in range(8):
        alpha = synthetic.OUTLINES[shape](np.random.default_rng(seed), 64)
        assert alpha.shape == (64, 64)
        assert alpha.mean() == pytest.approx(AREAS[shape], abs=0.003)


def test_sizes_and_places_vary_within_their_bounds():
    anomalies = make(normal(200, 100), "square")
    sides = np.array([np.sqrt(mask.sum()) for mask in anomalies.masks[200:]])
    assert sides.min() > 0.9 * np.sqrt(0.5) * 10
    assert sides.max() < 1.15 * np.sqrt(0.5) * 30
    centers = np.array([np.argwhere(mask).mean(0) for mask in anomalies.masks[200:]])
    assert centers.min() < 20
    assert centers.max() > 80


def test_an_image_is_drawn_alike_whatever_the_others_are():
    first, second = make(normal(3), "heart"), make(normal(6), "heart")
    np.testing.assert_array_equal(first.images[3:], second.images[6:9])
    assert not np.array_equal(first.images[3:], make(normal(3), "heart", seed=1).images[3:])


def test_only_normal_images_get_a_twin():
    examples = normal(3)
    labels = np.array([0, 1, -1], np.int32)
    assert len(make(examples._replace(labels=labels), "square").paths) == 2
    with pytest.raises(InputError, match="known to be normal"):
        make(examples._replace(labels=np.array([1, 1, -1], np.int32)), "square")


def test_what_is_written_can_be_evaluated_again(tmp_path):
    anomalies = make(normal(3), "heart")
    synthetic.save(anomalies, tmp_path)
    again = sources.read_test(tmp_path, 96)
    assert again.paths == anomalies.paths
    np.testing.assert_array_equal(again.images, anomalies.images)
    np.testing.assert_array_equal(again.labels, anomalies.labels)
    for mask, other in zip(anomalies.masks[3:], again.masks[3:], strict=True):
        np.testing.assert_array_equal(mask, other)


def test_natural_images_come_from_a_folder_where_one_is_named(tmp_path):
    write_image(tmp_path / "small.png", np.full((5, 9, 3), (250, 0, 0), np.uint8))
    natural, _ = synthetic.read_natural(str(tmp_path))
    anomalies = synthetic.make(normal(2), "square", "image", seed=0, natural=natural, digits=np.empty(0))
    center = np.argwhere(anomalies.masks[2]).mean(0).astype(int)
    np.testing.assert_array_equal(anomalies.images[2][tuple(center)], (250, 0, 0))
    with pytest.raises(InputError, match="is not a folder of images"):
        synthetic.read_natural(str(tmp_path / "none"))


def test_evaluation_on_synthetic_anomalies(category, tmp_path, tiny_run):
    options = SyntheticOptions("ellipse", "color", "", 0)
    cutpaste_tf.evaluate(tiny_run, category, options=EvaluationOptions(synthetic=options))
    assert (tiny_run / "eval_ellipse_color/metrics.json").is_file()
    assert len(list((tiny_run / "eval_ellipse_color_images/test/ellipse").iterdir())) == 3
    mask = Image.open(next((tiny_run / "eval_ellipse_color_images/ground_truth/ellipse").iterdir()))
    assert mask.size == (32, 32)
