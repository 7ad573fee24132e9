"""The stream of views: labels, independence, reproducibility, resumption."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import stream_of

from cutpaste_tf.augmentation import color, pipeline, proxy_tasks
from cutpaste_tf.augmentation.proxy_tasks import TASKS
from cutpaste_tf.settings.config import Config

SMALL = Config.of(image_size=32, batch_size=12, steps_per_epoch=4, scar_max_length=20)


def images(count=7, side=32):
    """Smooth images; the blue channel names the image: 10 * (index + 1)."""
    y, x = np.mgrid[0:side, 0:side]
    base = np.stack([x * 255 // side, y * 255 // side, np.zeros_like(x)], axis=-1).astype(np.uint8)
    return np.stack([base + np.array([0, 0, 10 * (index + 1)], np.uint8) for index in range(count)])


def take(dataset, steps):
    return [(x.numpy(), y.numpy()) for x, y in dataset.take(steps)]


def test_batches_hold_every_class_equally_with_values_in_range():
    views, labels = take(stream_of(images(), SMALL), 1)[0]
    assert views.shape == (12, 32, 32, 3)
    assert views.dtype == np.float32
    np.testing.assert_array_equal(labels, [0, 1, 2] * 4)
    assert views.min() >= 0
    assert views.max() <= 1


def test_labels_match_views():
    """Without base augmentation the normal view is the image itself, and each pasted view differs where it must."""
    config = Config.of(image_size=64, batch_size=12, translate=0, base_jitter=0)
    sources = images(side=64).astype(np.float32) / 255
    for views, labels in take(stream_of(images(side=64), config), 20):
        for normal, patch, scar in views.reshape(4, 3, 64, 64, 3):
            source = sources[np.argmin(np.abs(sources - normal).sum((1, 2, 3)))]
            np.testing.assert_allclose(normal, source, atol=1e-6)
            patch_part = np.any(np.abs(patch - source) > 1e-4, axis=-1)
            scar_part = np.any(np.abs(scar - source) > 1e-4, axis=-1)
            assert 1 <= patch_part.sum() <= 0.16 * 64 * 64
            assert 1 <= scar_part.sum() <= 1.3 * 16 * 25
            rows, columns = np.where(scar_part)
            assert max(np.ptp(rows), np.ptp(columns)) < np.hypot(16, 25) + 1
        np.testing.assert_array_equal(labels, [0, 1, 2] * 4)


def test_pasted_pixels_come_from_the_same_image():
    """Without any jitter every pasted color is one that the source image has."""
    config = Config.of(image_size=64, batch_size=12, translate=0, base_jitter=0, patch_jitter=0)
    for views, _ in take(stream_of(images(side=64), config), 5):
        for normal, patch, _ in views.reshape(4, 3, 64, 64, 3):
            colors = {tuple(c) for c in np.round(normal.reshape(-1, 3) * 255).astype(int)}
            assert {tuple(c) for c in np.round(patch.reshape(-1, 3) * 255).astype(int)} <= colors


def test_views_of_an_image_share_its_base_augmentation_unless_told_otherwise():
    """Eq. 1: g(x) and g(CP(x)) see the same augmented x; DROC draws it for each view."""
    config = Config.of(image_size=64, batch_size=12, max_patch_area=0.05)
    for shared in (True, False):
        settings = config.replaced(share_base_augmentation=shared)
        views, _ = take(stream_of(images(side=64), settings), 1)[0]
        grouped = views.reshape(4, 3, 64, 64, 3)
        alike = np.all(grouped[:, 1:] == grouped[:, :1], axis=-1).mean(axis=(2, 3))
        # All but the pasted part is the same to the last bit, or next to nothing is.
        assert np.all(alike > 0.9) if shared else np.all(alike < 0.1)
    assert Config().augmentation.share_base_augmentation


def test_crops_are_cut_before_they_are_jittered():
    """Eq. 3's c(x): the contrast of a crop changes about the crop's own mean grey."""
    config = Config.of(image_size=64, patch_size=32, translate=0.0, base_jitter=0.4, batch_size=12)
    y, x = np.mgrid[0:64, 0:64]
    image = np.repeat((2 * x + y)[..., None], 3, axis=-1).astype(np.uint8)
    seed = tf.constant([3, 4])
    offset = tf.random.stateless_uniform([2], tf.random.fold_in(seed, 2), maxval=33, dtype=tf.int32).numpy()
    crop = image[offset[0] : offset[0] + 32, offset[1] : offset[1] + 32]
    jitter = color.sample_jitter(tf.unstack(tf.random.split(seed, 2))[1], 0.4)
    view = proxy_tasks.base_augment(tf.constant(image), seed, config.augmentation, config.data.size)
    np.testing.assert_allclose(view, color.apply_jitter(tf.constant(crop), jitter), atol=1e-6)
    jittered = color.apply_jitter(tf.constant(image), jitter).numpy()
    assert np.abs(view - jittered[offset[0] : offset[0] + 32, offset[1] : offset[1] + 32]).max() > 0.02


def test_translation_stays_within_its_margin_and_reflects():
    config = Config.of(image_size=32, base_jitter=0, scar_max_length=20)
    image = images(1)
    padded = pipeline.pad(image, config.augmentation.translate)
    assert padded.shape == (1, 40, 40, 3)
    np.testing.assert_array_equal(padded[0, 3], padded[0, 5])  # the fifth row is the image's first
    offsets = set()
    for seed in range(300):
        view = proxy_tasks.base_augment(
            tf.constant(padded[0]), tf.constant([seed, 0]), config.augmentation, config.data.size
        ).numpy()
        crops = [(y, x) for y in range(9) for x in range(9)
                 if np.array_equal(np.round(view * 255), padded[0, y:y + 32, x:x + 32])]  # fmt: skip
        assert len(crops) == 1
        offsets.update(crops)
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(9))


def test_eager_equals_graph():
    padded = tf.constant(pipeline.pad(images(1), SMALL.augmentation.translate)[0])
    seed = tf.random.fold_in(tf.unstack(tf.random.split([SMALL.seed, 0], 2))[1], tf.constant(0, tf.int64))
    streamed = take(stream_of(images(1), SMALL), 1)[0][0][:3]
    tf.config.run_functions_eagerly(True)
    try:
        eager, _ = TASKS["cutpaste_3way"](padded, seed, SMALL.augmentation, SMALL.data.size)
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(eager, streamed, atol=1e-5)


def test_the_jitter_order_varies_from_image_to_image_in_a_traced_graph():
    dataset = tf.data.Dataset.range(50, output_type=tf.int32)
    orders = dataset.map(lambda i: color.sample_jitter(tf.stack([i, 0]), 0.1).order)
    assert len({tuple(order) for order in orders.as_numpy_iterator()}) > 10


@pytest.mark.parametrize("threads", [1, 4])
def test_same_seed_same_bits_whatever_the_parallelism(threads):
    """At 256 px, where a sum over the pixels is large enough to be split among threads."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = threads == 4
    config = Config.of(batch_size=12)
    expected = take(stream_of(images(side=256), config), 3)
    batches = take(stream_of(images(side=256), config).with_options(options), 3)
    for (x, y), (other_x, other_y) in zip(expected, batches, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


@pytest.mark.parametrize("patch_size", [0, 16])
def test_views_of_8_bits_are_the_views_rounded(patch_size):
    config = SMALL.replaced(patch_size=patch_size, scar_max_length=10, scar_max_width=4)
    plain = take(stream_of(images(), config), 3)
    of_bytes = take(stream_of(images(), config.replaced(uint8_views=True)), 3)
    for (views, labels), (rounded, same) in zip(plain, of_bytes, strict=True):
        assert rounded.dtype == np.uint8
        assert rounded.shape == views.shape
        np.testing.assert_array_equal(labels, same)
        exact = views.astype(np.float64) * 255
        assert np.abs(rounded - exact).max() <= 0.5 + 1e-4  # within float32's error of a tie either is right
        assert np.ptp(rounded) > 100


def test_other_seed_other_stream():
    first = take(stream_of(images(), SMALL), 1)[0][0]
    second = take(stream_of(images(), SMALL.replaced(seed=1)), 1)[0][0]
    assert not np.array_equal(first, second)


def test_a_set_kept_on_disk_gives_the_same_bits(tmp_path):
    on_disk = np.memmap(tmp_path / "images", np.uint8, "w+", shape=images().shape)
    on_disk[:] = images()
    for (x, _), (other_x, _) in zip(
        take(stream_of(images(), SMALL), 5), take(stream_of(on_disk, SMALL), 5), strict=True
    ):
        np.testing.assert_array_equal(x, other_x)


def test_a_sheet_shows_every_augmented_view():
    shown = pipeline.augmentations(images(2), Config.of(image_size=32, scar_max_length=20).augmentation, seed=0)
    assert list(shown) == ["cutpaste", "scar"]
    assert shown["scar"].shape == (2, 32, 32, 3)
    of_bytes = Config.of(image_size=32, scar_max_length=20, uint8_views=True).augmentation
    np.testing.assert_array_equal(pipeline.augmentations(images(2), of_bytes, seed=0)["scar"], shown["scar"])
    turned = pipeline.augmentations(
        images(2), Config.of(proxy_task="rotation", image_size=32, scar_max_length=20).augmentation, seed=0
    )
    assert list(turned) == ["90 degrees", "180 degrees", "270 degrees"]


@pytest.mark.parametrize("start", [1, 2, 5])
def test_a_stream_that_starts_later_goes_on_where_the_first_would(start):
    uninterrupted = take(stream_of(images(), SMALL), 8)
    rest = take(stream_of(images(), SMALL, start_step=start), 8 - start)
    for (x, _), (other_x, _) in zip(uninterrupted[start:], rest, strict=True):
        np.testing.assert_array_equal(x, other_x)


def test_each_pass_shows_every_image_once_in_a_new_order():
    config = Config.of(image_size=32, batch_size=3, translate=0, base_jitter=0, scar_max_length=20)
    steps = take(stream_of(images(), config), 21)
    order = [round(float(views[0, 0, 0, 2]) * 25.5) - 1 for views, _ in steps]
    passes = [order[0:7], order[7:14], order[14:21]]
    assert all(sorted(shown) == list(range(7)) for shown in passes)
    assert len({tuple(shown) for shown in passes}) == 3
