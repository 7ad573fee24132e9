"""What each proxy task makes of an image."""

import numpy as np
import pytest
import tensorflow as tf

from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.augmentation.proxy_tasks import TASKS
from cutpaste_tf.settings.augmentation import VIEWS
from cutpaste_tf.settings.config import Config


def images(count=7, side=32):
    """Smooth images; the blue channel names the image: 10 * (index + 1)."""
    y, x = np.mgrid[0:side, 0:side]
    base = np.stack([x * 255 // side, y * 255 // side, np.zeros_like(x)], axis=-1).astype(np.uint8)
    return np.stack([base + np.array([0, 0, 10 * (index + 1)], np.uint8) for index in range(count)])


def test_every_task_is_configured_and_gives_its_views():
    assert list(VIEWS) == list(TASKS)
    for name, views_of_task in VIEWS.items():
        config = Config.of(proxy_task=name, image_size=32, scar_max_length=20, saliency_weights="x")
        sources = images(1)
        if config.augmentation.needs_saliency:
            sources = np.concatenate([sources, np.full_like(sources[..., :1], 15)], axis=-1)
        image = tf.constant(pipeline.pad(sources, config.augmentation.translate)[0])
        views, labels = TASKS[name](image, tf.constant([1, 2]), config.augmentation, (32, 32))
        assert views.shape == (len(views_of_task), 32, 32, 3)
        assert views.dtype == tf.float32
        np.testing.assert_array_equal(labels, np.arange(len(views_of_task)))


def task_views(name, config, count=60, side=64):
    """Views [count, classes, side, side, 3] of one image, without base augmentation, and the image in [0, 1]."""
    config = config.replaced(proxy_task=name, image_size=side, batch_size=0, translate=0.0, base_jitter=0.0)
    image = images(1, side)[0]
    settings = config.augmentation

    def draw(index):
        views, _ = TASKS[name](tf.constant(image), tf.stack([index, 5]), settings, (side, side))
        return views

    dataset = tf.data.Dataset.range(count, output_type=tf.int32).map(draw).batch(count)
    return next(iter(dataset)).numpy(), image / np.float32(255)


@pytest.mark.parametrize("name", ["cutout", "cutout_mean", "cutout_color"])
def test_cutout_fills_a_box_with_the_stated_color(name):
    views, image = task_views(name, Config())
    colors = []
    for normal, cut in views:
        np.testing.assert_allclose(normal, image, atol=1e-6)
        rows, columns = np.nonzero(np.any(np.abs(cut - image) > 1e-6, axis=-1))
        box = cut[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        # The box, whole: nothing outside it changed, and inside is one color.
        assert np.ptp(box.reshape(-1, 3), axis=0).max() < 1e-6
        assert 0.015 * 64 * 64 <= box.shape[0] * box.shape[1] <= 0.16 * 64 * 64
        colors.append(box[0, 0])
    if name == "cutout":
        np.testing.assert_allclose(colors, 0.5, atol=1e-6)
    elif name == "cutout_mean":
        np.testing.assert_allclose(colors, np.tile(image.mean((0, 1)), (len(colors), 1)), atol=1e-5)
    else:
        assert np.std(colors, axis=0).min() > 0.2  # uniform: 0.29
        assert 0.35 < np.mean(colors) < 0.65


def test_confetti_shifts_a_box_by_one_color_and_clips():
    views, image = task_views("confetti", Config(), count=300)
    shifts = []
    for normal, shifted in views:
        np.testing.assert_allclose(normal, image, atol=1e-6)
        change = shifted - image
        rows, columns = np.nonzero(np.any(np.abs(change) > 1e-6, axis=-1))
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        shift = np.where(change.max((0, 1)) > 1e-5, change.max((0, 1)), change.min((0, 1)))
        assert 0.004 * 64 * 64 <= change[box][..., 0].size <= 0.16 * 64 * 64
        np.testing.assert_allclose(shifted[box], np.clip(image[box] + shift, 0, 1), atol=1e-5)
        shifts.append(shift)
    assert 0.35 < np.mean(np.array(shifts) > 0) < 0.65
    assert np.max(shifts) <= 1.0
    assert np.min(shifts) >= -1.0


def test_scar_is_a_thin_strip_of_one_random_color():
    views, image = task_views("scar", Config())
    inside, colors = [], []
    for _, marked in views:
        change = np.abs(marked - image).max(axis=-1) > 1e-3
        rows, columns = np.nonzero(change)
        assert change.sum() <= 1.4 * 16 * 25
        assert max(np.ptp(rows), np.ptp(columns)) < np.hypot(16, 25) + 1
        # One color, whatever lies beneath, but for the strip's anti-aliased edge.
        center = marked[(rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2]
        inside.append(np.mean(np.abs(marked[change] - center).max(axis=-1) < 1e-3))
        colors.append(center)
    assert np.mean(inside) > 0.5
    assert np.std(colors, axis=0).min() > 0.2


def test_union_draws_patch_or_scar_by_a_fair_coin():
    views, image = task_views("cutpaste_union", Config.of(min_patch_area=0.14), count=400)
    changed = (np.abs(views[:, 1] - image).max(axis=-1) > 1e-4).sum((1, 2))
    # A patch covers at least 0.14 * 4096 = 573 pixels, a scar at most some 450.
    assert 0.5 * 400 - 50 < np.sum(changed > 500) < 0.5 * 400 + 50


def test_two_class_tasks_paste_what_the_3_way_task_pastes():
    both, _ = task_views("cutpaste_3way", Config(), count=5)
    assert both.shape[1] == 3
    for name, largest in (("cutpaste", 0.16 * 64 * 64), ("cutpaste_scar", 1.4 * 16 * 25)):
        views, image = task_views(name, Config())
        changed = (np.abs(views[:, 1] - image).max(axis=-1) > 1e-4).sum((1, 2))
        assert views.shape[1] == 2
        assert changed.min() >= 1
        assert changed.max() <= largest


def test_rotation_turns_by_quarters():
    views, image = task_views("rotation", Config(), count=2)
    for turns in range(4):
        np.testing.assert_allclose(views[0, turns], np.rot90(image, turns), atol=1e-6)
