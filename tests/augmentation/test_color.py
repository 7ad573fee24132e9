"""Color jitter against torchvision's formulas, written out in NumPy."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from cutpaste_tf.augmentation import color

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def grey(image):
    return image @ np.array([0.2989, 0.587, 0.114])


def torchvision_operation(image, operation, jitter):
    """torchvision.transforms.functional on float images: blend and clamp; hue through HSV."""
    if operation == BRIGHTNESS:
        return np.clip(image * jitter.brightness, 0, 1)
    if operation == CONTRAST:
        return np.clip(jitter.contrast * image + (1 - jitter.contrast) * grey(image).mean(), 0, 1)
    if operation == SATURATION:
        return np.clip(jitter.saturation * image + (1 - jitter.saturation) * grey(image)[..., None], 0, 1)
    result = np.empty_like(image)
    for index in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[index])
        result[index] = colorsys.hsv_to_rgb((hue + jitter.hue) % 1.0, saturation, value)
    return result


def make_jitter(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=(0, 1, 2, 3)):
    values = [tf.constant(value, tf.float32) for value in (brightness, contrast, saturation, hue)]
    return color.Jitter(*values, tf.constant(order))


def picture(seed=0):
    image = np.random.default_rng(seed).uniform(0, 1, (9, 7, 3)).astype(np.float32)
    image[0, 0], image[0, 1], image[0, 2] = 0.0, 1.0, 0.4  # grey pixels have no hue
    return image


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_torchvision_in_the_order_drawn(seed):
    image = picture(seed)
    jitter = color.sample_jitter(tf.constant([seed, 7]), 0.3)
    expected = image.astype(np.float64)
    for operation in jitter.order.numpy():
        expected = torchvision_operation(expected, operation, color.Jitter(*[np.asarray(v) for v in jitter]))
    np.testing.assert_allclose(color.apply_jitter(tf.constant(image), jitter), expected, atol=2e-6)


def test_clips_after_each_operation():
    image = np.full((4, 4, 3), 0.95, np.float32)
    image[0] = 0.2
    brighter_first = color.apply_jitter(image, make_jitter(1.1, 0.5))
    mean = (12 * 1.0 + 4 * 0.22) / 16 * (0.2989 + 0.587 + 0.114)
    np.testing.assert_allclose(brighter_first[1, 0], [0.5 * 1.0 + 0.5 * mean] * 3, atol=1e-6)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.1, 1 / 3, 0.5])
def test_hue_turns_pure_colors(turns):
    image = np.eye(3, dtype=np.float32)[None]
    expected = torchvision_operation(image.astype(np.float64), HUE, make_jitter(hue=turns))
    np.testing.assert_allclose(color.apply_jitter(image, make_jitter(hue=turns)), expected, atol=1e-6)


def test_neutral_jitter_changes_nothing():
    image = picture()
    np.testing.assert_allclose(color.apply_jitter(image, make_jitter()), image, atol=1e-6)
    assert color.sample_jitter(tf.constant([1, 2]), 0.0).hue == 0.0


def test_uint8_and_float_images_agree():
    image = (picture() * 255).astype(np.uint8)
    jitter = color.sample_jitter(tf.constant([3, 4]), 0.1)
    as_float = color.apply_jitter((image / 255).astype(np.float32), jitter)
    np.testing.assert_allclose(color.apply_jitter(tf.constant(image), jitter), as_float, atol=1e-6)


def test_compiled_whole_image_equals_uncompiled_patch():
    image, jitter = picture(), color.sample_jitter(tf.constant([5, 6]), 0.1)
    spec = tf.TensorSpec([None, None, 3], tf.float32)
    dynamic = tf.function(color.apply_jitter, input_signature=[spec, _specs(jitter)])
    np.testing.assert_allclose(dynamic(image, jitter), color.apply_jitter(image, jitter), atol=1e-6)


def test_draws_have_the_stated_distribution():
    dataset = tf.data.Dataset.range(4000, output_type=tf.int32)
    dataset = dataset.map(lambda index: color.sample_jitter(tf.stack([index, 0]), 0.1)).batch(4000)
    drawn = color.Jitter(*[value.numpy() for value in next(iter(dataset))])
    for factor in (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue + 1.0):
        assert np.min(factor) >= 0.9
        assert np.max(factor) <= 1.1
        # Uniform on (0.9, 1.1): mean 1, standard deviation 0.2 / sqrt(12); 5 sigma of the mean is 0.0046.
        assert np.mean(factor) == pytest.approx(1.0, abs=0.0046)
        assert np.std(factor) == pytest.approx(0.2 / 12**0.5, rel=0.05)
    orders, counts = np.unique(drawn.order, axis=0, return_counts=True)
    assert len(orders) == 24
    assert counts.min() > 100  # 166.7 expected; five sigma below is 102


def _specs(jitter):
    return color.Jitter(*[tf.TensorSpec(value.shape, value.dtype) for value in jitter])
