"""Batch norm's statistics of images: exact, whatever was there before, and nothing else changes."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY, networks_of

import cutpaste_tf
from cutpaste_tf import environment
from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.networks import build
from cutpaste_tf.networks.batch_norm import batches, calibrate_batch_norm
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting
from cutpaste_tf.training.train import train

IMAGES = np.random.default_rng(0).uniform(0.2, 0.7, (7, 16, 16, 3)).astype(np.float32)


def _batch_norms(nets):
    return [layer for layer in nets.backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_statistics_are_those_of_the_batches_weighted_by_size():
    nets = networks_of(TINY)
    first, _ = _batch_norms(nets)
    before = [np.array(weight) for weight in nets.backbone.trainable_weights]
    for _ in range(2):  # the second time begins anew
        calibrate_batch_norm(nets.feature, [IMAGES[:4], IMAGES[4:]])
    map_of = keras.Model(nets.backbone.input, first.input)
    maps = [keras.ops.convert_to_numpy(map_of(batch)) for batch in (IMAGES[:4], IMAGES[4:])]
    for statistic, reduce in ((first.moving_mean, np.mean), (first.moving_variance, np.var)):
        expected = np.average([reduce(feature_map, axis=(0, 1, 2)) for feature_map in maps], axis=0, weights=(4, 3))
        np.testing.assert_allclose(statistic, expected, rtol=1e-4, atol=1e-6)
    for weight, other in zip(before, nets.backbone.trainable_weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    assert first.momentum == pytest.approx(0.9)


def test_one_batch_then_computes_in_inference_as_in_training():
    """Deeper layers see what the ones before them normalized."""
    nets = networks_of(TINY)
    trained_like = keras.ops.convert_to_numpy(nets.feature(IMAGES, training=True))
    calibrate_batch_norm(nets.feature, [IMAGES])
    np.testing.assert_allclose(nets.feature(IMAGES, training=False), trained_like, rtol=1e-3, atol=1e-4)


def test_an_untrained_network_ignores_brightness_and_a_calibrated_one_does_not():
    """Convolutions and ReLU scale with their input: the feature's direction stays. Batch norm's mean ends that."""
    nets = networks_of(TINY)

    def directions(images):
        features = keras.ops.convert_to_numpy(nets.feature(images))
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    np.testing.assert_allclose(directions(0.5 * IMAGES), directions(IMAGES), atol=1e-4)
    calibrate_batch_norm(nets.feature, [IMAGES])
    assert np.abs(directions(0.5 * IMAGES) - directions(IMAGES)).max() > 0.1


@pytest.mark.parametrize("view_size", [16, 8])
def test_batches_have_every_image_once(view_size):
    images = np.random.default_rng(1).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    images[:, :, :, 0] = np.arange(7)[:, None, None]  # which image a crop is of
    made = [*batches(images, (view_size, view_size), 3, seed=0)]
    assert [batch.shape for batch in made] == [(size, view_size, view_size, 3) for size in (3, 3, 1)]
    assert sorted(np.round(255 * np.concatenate(made)[:, 0, 0, 0])) == [*range(7)]
    if view_size == 16:
        order = np.round(255 * np.concatenate(made)[:, 0, 0, 0]).astype(int)
        np.testing.assert_allclose(np.concatenate(made), images[order] / np.float32(255))


def test_a_run_ends_with_statistics_of_its_training_images(tmp_path, category):
    """By the setting, an untrained run too; the features that its density is fitted to are those of that network."""
    config = TINY.replaced(data=str(category), epochs=0, calibrate_batch_norm=True)
    train(config, tmp_path / "run", report=lambda line: None)
    nets = fitting.initial_networks(config.resolved())
    images = sources.read_train(category, 32).images
    calibrate_batch_norm(nets.feature, batches(images, (32, 32), 6, seed=0))
    expected = keras.ops.convert_to_numpy(nets.feature(images / np.float32(255)))
    np.testing.assert_allclose(cutpaste_tf.load(tmp_path / "run").embed(images), expected, rtol=1e-4, atol=1e-6)


def test_frozen_batch_norm_is_refused():
    with pytest.raises(InputError, match="--freeze_batch_norm=no"):
        Config.of(backbone="efficientnet_b0", weights="imagenet", calibrate_batch_norm=True)


def test_frozen_batch_norm_stays():
    nets = networks_of(TINY)
    build.freeze_batch_norm(nets.backbone)
    calibrate_batch_norm(nets.feature, [IMAGES])
    for layer in _batch_norms(nets):
        np.testing.assert_array_equal(layer.moving_mean, np.zeros(layer.moving_mean.shape))


@pytest.mark.skipif(environment.backend() != "tensorflow", reason="about TensorFlow's threads")
def test_the_same_gradients_to_the_last_bit():
    """Batch norm's gradient is a sum of three terms; it must not depend on which of them is ready first."""
    code = (
        "import numpy as np\n"
        "from cutpaste_tf.backend import keras, tf\n"
        "random = np.random.default_rng(0)\n"
        "images = tf.constant(random.normal(size=(6, 1024, 1024, 3)), tf.float32)\n"
        "kernel = tf.Variable(random.normal(size=(3, 3, 3, 8)), dtype=tf.float32)\n"
        "normalize = keras.layers.BatchNormalization()\n"
        "@tf.function\n"
        "def gradient():\n"
        "    with tf.GradientTape() as tape:\n"
        "        features = tf.nn.relu(normalize(tf.nn.conv2d(images, kernel, 2, 'VALID'), training=True))\n"
        "        loss = tf.reduce_sum(tf.square(tf.reduce_mean(features, [1, 2])) * tf.range(8.0))\n"
        "    return tape.gradient(loss, kernel)\n"
        "print(len({gradient().numpy().tobytes() for _ in range(15)}))\n"
    )
    completed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert completed.stdout == "1\n", completed.stderr
