"""Geometry drawn over thousands of seeds, and exact pixels pasted from patches made by hand."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from cutpaste_tf.augmentation import color, patches, rotation
from cutpaste_tf.settings.augmentation import AugmentationSettings

COUNT = 5000


def neutral_jitter():
    unchanged = tf.constant(1.0)
    return color.Jitter(unchanged, unchanged, unchanged, tf.constant(0.0), tf.range(4))


@functools.cache
def draw(kind, size, settings):
    """Every field of COUNT draws, as NumPy arrays."""
    sample = {"cutpaste": patches.sample_cutpaste, "scar": patches.sample_scar}[kind]

    def fields(index):
        patch = sample(tf.stack([index, 1]), size, settings)
        return [tf.cast(value, tf.float32) for value in patch[:-1]]

    dataset = tf.data.Dataset.range(COUNT, output_type=tf.int32).map(fields).batch(COUNT)
    names = (patches.CutPastePatch if kind == "cutpaste" else patches.ScarPatch)._fields
    return dict(zip(names, [value.numpy() for value in next(iter(dataset))], strict=False))


def assert_uniform(values, low, high):
    """Kolmogorov-Smirnov against U(low, high); fixed seeds, so it passes or fails for good."""
    assert stats.kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3


def assert_uniform_integers(values, low, high):
    unique, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(unique, np.arange(low, high + 1))
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [(256, 256), (64, 64)])
def test_cutpaste_area_and_aspect_have_the_stated_distribution(size):
    drawn = draw("cutpaste", size, AugmentationSettings())
    height, width = drawn["height"], drawn["width"]
    if size == (256, 256):  # rounding to whole pixels blurs a small canvas
        assert_uniform(height * width / (size[0] * size[1]), 0.02, 0.15)
        aspect = height / width
        tall = aspect > 1
        assert tall.mean() == pytest.approx(0.5, abs=0.035)  # a fair coin, 5 sigma
        assert_uniform(aspect[tall], 1.0, 3.3)
        assert_uniform(aspect[aspect < 1], 0.3, 1.0)
    assert np.all(height * width >= 0.015 * size[0] * size[1])
    assert np.all(height * width <= 0.16 * size[0] * size[1])


@pytest.mark.parametrize(
    ("sampling", "law"),
    [
        ("uniform", stats.uniform(0.3, 3.0)),
        ("log_uniform", stats.loguniform(0.3, 3.3)),
    ],
)
def test_other_aspect_laws(sampling, law):
    drawn = draw("cutpaste", (512, 512), AugmentationSettings(aspect_sampling=sampling))
    assert stats.kstest(drawn["height"] / drawn["width"], law.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("kind", "box"), [("cutpaste", ("height", "width")), ("scar", ("box_height", "box_width"))])
@pytest.mark.parametrize("size", [(256, 256), (40, 64)])
def test_patches_never_leave_the_image(kind, box, size):
    drawn = draw(kind, size, AugmentationSettings())
    assert min(drawn[name].min() for name in ("top", "left", "source_top", "source_left")) >= 0
    assert np.all(drawn["source_top"] + drawn["height"] <= size[0])
    assert np.all(drawn["source_left"] + drawn["width"] <= size[1])
    assert np.all(drawn["top"] + drawn[box[0]] <= size[0])
    assert np.all(drawn["left"] + drawn[box[1]] <= size[1])


def test_positions_are_uniform_and_independent():
    drawn = draw("cutpaste", (256, 256), AugmentationSettings())
    for top, extent in (("top", "height"), ("source_top", "height"), ("left", "width"), ("source_left", "width")):
        # The offset divided by its number of values, dithered within one value, is U(0, 1).
        dither = np.random.default_rng(0).uniform(size=COUNT)
        assert_uniform((drawn[top] + dither) / (256 - drawn[extent] + 1), 0.0, 1.0)
    room = 256 - drawn["height"]
    assert abs(np.corrcoef(drawn["top"] / room, drawn["source_top"] / room)[0, 1]) < 0.07


def test_a_patch_that_cannot_fit_is_cut_to_the_image():
    settings = AugmentationSettings(min_patch_area=0.9, max_patch_area=0.95, min_aspect_ratio=0.3, max_aspect_ratio=3.3)
    drawn = draw("cutpaste", (64, 64), settings)
    assert drawn["height"].max() <= 64
    assert drawn["width"].max() <= 64
    assert drawn["height"].min() >= 1


def test_scar_geometry_has_the_stated_distribution():
    drawn = draw("scar", (256, 256), AugmentationSettings())
    assert_uniform_integers(drawn["width"], 2, 16)
    assert_uniform_integers(drawn["height"], 10, 25)
    assert_uniform(np.degrees(drawn["angle"]), -45.0, 45.0)
    cosine, sine = np.abs(np.cos(drawn["angle"])), np.abs(np.sin(drawn["angle"]))
    exact = drawn["height"] * cosine + drawn["width"] * sine
    assert np.all(drawn["box_height"] >= exact - 2e-3)
    assert np.all(drawn["box_height"] < exact + 1)


def numbered(height, width):
    """An image whose every value is different, as float32 in [0, 1]."""
    return (np.arange(height * width * 3, dtype=np.float32) / (height * width * 3)).reshape(height, width, 3)


def test_cutpaste_moves_exact_pixels():
    image = numbered(12, 10)
    patch = patches.CutPastePatch(*[tf.constant(v) for v in (4, 3, 1, 2, 7, 5)], neutral_jitter())
    expected = image.copy()
    expected[7:11, 5:8] = image[1:5, 2:5]
    np.testing.assert_allclose(patches.paste_cutpaste(tf.constant(image), patch), expected, atol=1e-6)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (8, 7), (0, 7), (8, 0)])
def test_cutpaste_reaches_the_corners(top, left):
    image = numbered(12, 10)
    patch = patches.CutPastePatch(*[tf.constant(v) for v in (4, 3, 4, 4, top, left)], neutral_jitter())
    expected = image.copy()
    expected[top : top + 4, left : left + 3] = image[4:8, 4:7]
    np.testing.assert_allclose(patches.paste_cutpaste(tf.constant(image), patch), expected, atol=1e-6)


def scar(height, width, angle, top, left, source=(2, 3)):
    box = rotation.rotated_box(tf.constant(height), tf.constant(width), tf.constant(angle))
    values = (height, width, *source, angle, *box, top, left)
    return patches.ScarPatch(*[tf.convert_to_tensor(value) for value in values], neutral_jitter())


def test_scar_without_rotation_moves_exact_pixels():
    image = numbered(32, 32)
    expected = image.copy()
    expected[15:26, 20:24] = image[2:13, 3:7]
    pasted = patches.paste_scar(tf.constant(image), scar(11, 4, 0.0, 15, 20))
    np.testing.assert_allclose(pasted, expected, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_scar_rotated_by_a_quarter_turn_is_the_patch_turned(sign):
    image = numbered(32, 32)
    patch = scar(11, 4, sign * np.pi / 2, 20, 18)
    assert (int(patch.box_height), int(patch.box_width)) == (4, 11)
    expected = image.copy()
    expected[20:24, 18:29] = np.rot90(image[2:13, 3:7], sign)  # counter-clockwise for +
    np.testing.assert_allclose(patches.paste_scar(tf.constant(image), patch), expected, atol=1e-4)


def test_rotated_scar_has_no_dark_corners():
    image = np.full((48, 48, 3), 0.25, np.float32)
    image[2:22, 3:9] = 0.75  # the patch is bright, its surroundings are grey: nothing may be darker
    patch = scar(20, 6, np.pi / 4, 24, 20)
    pasted = patches.paste_scar(tf.constant(image), patch).numpy()
    box = pasted[24 : 24 + int(patch.box_height), 20 : 20 + int(patch.box_width), 0]
    assert pasted.min() >= 0.25 - 1e-6
    assert box.max() == pytest.approx(0.75, abs=1e-5)
    assert box[0, 0] == box[-1, -1] == 0.25
    # What is pasted covers the patch's area, edges weighted by the alpha mask.
    assert (box - 0.25).sum() / 0.5 == pytest.approx(20 * 6, rel=0.1)


def test_the_patch_is_jittered_and_the_image_is_not():
    image = numbered(12, 10)
    dark = neutral_jitter()._replace(brightness=tf.constant(0.5))
    patch = patches.CutPastePatch(*[tf.constant(v) for v in (4, 3, 1, 2, 7, 5)], dark)
    expected = image.copy()
    expected[7:11, 5:8] = 0.5 * image[1:5, 2:5]
    np.testing.assert_allclose(patches.paste_cutpaste(tf.constant(image), patch), expected, atol=1e-6)
