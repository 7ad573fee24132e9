"""The graph's resizing is Pillow's."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cutpaste_tf.detection.graphs import resizing
from cutpaste_tf.images.resizing import resize

SIZES = [1, 2, 3, 17, 31, 32, 33, 48, 63, 64, 65, 96, 97, 128, 150, 255, 256, 257, 300, 511, 640, 899, 900, 1025]


@pytest.mark.parametrize("size", [(32, 32), (48, 81), (256, 256)])
def test_it_is_pillow_s_to_the_bit(size, tmp_path):
    """As it is saved and loaded, which is when TensorFlow rewrites what it can."""
    rng = np.random.default_rng(size)
    module = tf.Module()
    resizer = resizing.Resizer(size)
    module.divisors = resizer._divisors
    module.resize = tf.function(resizer, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    tf.saved_model.save(module, str(tmp_path / "resizer"))
    loaded = tf.saved_model.load(str(tmp_path / "resizer"))
    for height, width in zip(SIZES, rng.permutation(SIZES), strict=True):
        images = rng.integers(0, 256, (2, height, width, 3), np.uint8)
        images[1] = np.where(rng.random(images[1].shape) < 0.5, 0, 255)  # the extremes, which round furthest
        expected = [np.asarray(resize(Image.fromarray(image), size[1], size[0])) for image in images]
        np.testing.assert_array_equal(loaded.resize(images), expected, err_msg=f"{height} x {width}")


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 256), (7, 5, 64), (64, 64, 32), (64, 64, 64), (1, 1, 32)])
def test_float_maps_are_resized_as_pillow_does(height, width, side):
    heat = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    narrowed = (heat @ resizing.matrix(width, side).T).astype(np.float32)
    actual = (resizing.matrix(height, side) @ narrowed).astype(np.float32)
    expected = np.asarray(resize(Image.fromarray(heat), side, side))
    np.testing.assert_allclose(actual, expected, atol=1e-6)
