"""From scores of patches to heat maps and scores of images."""

import keras
import numpy as np
import pytest

from cutpaste_tf.detection import heat_maps
from cutpaste_tf.settings.scoring import FeatureSettings, HeatMapSettings

FEATURES = FeatureSettings(extract_size=16, stride=4)
SETTINGS = HeatMapSettings(smoothing_sigma=5.0)


def test_a_blob_is_spread_over_its_patch_and_nowhere_else():
    scores = np.zeros((1, 13, 13), np.float32)
    scores[0, 3, 9] = 7.0
    (heat,) = heat_maps.upsample(scores, 64, FEATURES, SETTINGS)
    assert heat.shape == (64, 64)
    assert heat.dtype == np.float32
    y, x = np.nonzero(heat)
    assert (y.min(), y.max(), x.min(), x.max()) == (12, 27, 36, 51)
    offsets = np.arange(16) - 7.5
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 50)
    np.testing.assert_allclose(heat[12:28, 36:52], 7 * 16 * kernel / kernel.sum(), rtol=1e-5)


def test_upsampling_is_the_transposed_convolution():
    scores = np.random.default_rng(0).random((2, 13, 13)).astype(np.float32)
    offsets = np.arange(16) - 7.5
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 50)
    kernel = (16 * kernel / kernel.sum()).astype(np.float32)[:, :, None, None]
    expected = keras.ops.conv_transpose(scores[..., None], kernel, strides=4, padding="valid")
    np.testing.assert_allclose(
        heat_maps.upsample(scores, 64, FEATURES, SETTINGS), np.asarray(expected)[..., 0], rtol=1e-4
    )


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_with_coverage_normalized_a_constant_stays_one(stride):
    features = FEATURES.replaced(stride=stride)
    side = 48 // stride + 1
    scores = np.full((1, side, side), 3.0, np.float32)
    damped = heat_maps.upsample(scores, 64, features, SETTINGS)[0]
    level = heat_maps.upsample(scores, 64, features, SETTINGS.replaced(normalize_coverage=True))[0]
    np.testing.assert_allclose(level, 3.0, rtol=1e-6)
    if stride == 4:
        assert damped[0, 0] < 0.5 * damped[32, 32]
        np.testing.assert_allclose(damped[20:40, 20:40], 3.0, rtol=0.05)


def test_an_image_s_score_is_the_maximum_of_its_map_or_of_its_patches():
    scores = np.zeros((2, 13, 13), np.float32)
    scores[0, 3, 9] = 7.0
    scores[1, 4:9, 4:9] = 3.0
    maps = heat_maps.upsample(scores, 64, FEATURES, SETTINGS)
    by_map = heat_maps.image_scores(scores, maps, SETTINGS)
    by_patch = heat_maps.image_scores(scores, maps, SETTINGS.replaced(image_score="patches"))
    np.testing.assert_array_equal(by_map, maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(by_patch, [7.0, 3.0])
    assert by_map[0] < by_map[1]  # one odd patch counts for less than a region
