"""The Keras layers: the pipeline's bits, in tf.data, in a model, on arrays."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from cutpaste_tf import InputError, RandomCutPaste, RandomCutPasteScar
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.settings.augmentation import AugmentationSettings

LAYERS = {"cutpaste": RandomCutPaste, "cutpaste_scar": RandomCutPasteScar}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), np.uint8)


@pytest.mark.parametrize("task", LAYERS)
def test_a_layer_gives_the_bits_of_the_pipeline(task, images):
    settings = AugmentationSettings(proxy_task=task, translate=0.0, base_jitter=0.0)
    batches = pipeline.stream(images, settings, batch_size=8, seed=3).take(2)
    layer = LAYERS[task](seed=3)
    for views, labels in batches.as_numpy_iterator():
        np.testing.assert_array_equal(np.asarray(layer(views[labels == 0])), views[labels == 1])
    in_data = LAYERS[task](seed=3)
    normal = [views[labels == 0] for views, labels in batches.as_numpy_iterator()]
    streamed = tf.data.Dataset.from_tensor_slices(np.concatenate(normal)).batch(3).map(in_data)  # other batches
    augmented = [views[labels == 1] for views, labels in batches.as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate([*streamed.as_numpy_iterator()]), np.concatenate(augmented))


@pytest.mark.parametrize("kind", LAYERS.values())
def test_a_layer_augments_in_training_alone(kind, images):
    inputs = keras.Input(images.shape[1:], dtype="uint8")
    model = keras.Model(inputs, kind(seed=1)(inputs))
    scaled = images / np.float32(255)
    np.testing.assert_allclose(np.asarray(model(images, training=False)), scaled, atol=1e-7)
    trained = np.asarray(model(images, training=True))
    assert trained.dtype == np.float32
    assert (np.abs(trained - scaled) > 0.01).any(axis=(1, 2, 3)).all()
    one = kind(seed=1)
    np.testing.assert_array_equal(np.asarray(one(images[0])), trained[0])


@pytest.mark.parametrize("kind", LAYERS.values())
def test_a_layer_is_saved_with_its_settings(kind, tmp_path, images):
    model = keras.Sequential([keras.Input(images.shape[1:]), kind(seed=5, patch_jitter=0.3, name="paste")])
    model.save(tmp_path / "model.keras")
    layer = keras.saving.load_model(tmp_path / "model.keras").get_layer("paste")
    assert layer.get_config() == model.get_layer("paste").get_config()
    assert (layer.seed, layer.settings.patch_jitter) == (5, 0.3)


def test_bad_input_is_refused(images):
    with pytest.raises(InputError, match="patch_area"):
        RandomCutPaste(min_patch_area=0.5, max_patch_area=0.1)
    with pytest.raises(InputError, match="known size, uint8 or float, not int64"):
        RandomCutPaste()(images.astype(np.int64))
    with pytest.raises(InputError, match="does not fit into 16 px"):
        RandomCutPasteScar()(images[:, :16])
    any_size = tf.TensorSpec([None, None, 3], tf.uint8)
    unknown = tf.data.Dataset.from_generator(lambda: iter(images), output_signature=any_size)
    with pytest.raises(Exception, match=r"takes RGB images .* of known size"):  # tf.data wraps the error
        unknown.map(RandomCutPasteScar())
    with pytest.raises(ValueError, match="scar_max_width"):
        RandomCutPaste(scar_max_width=3)


@pytest.mark.slow
def test_a_layer_works_with_jax(images, tmp_path):
    pytest.importorskip("jax")
    np.save(tmp_path / "images.npy", images)
    script = (
        "import numpy as np, sys; from cutpaste_tf import RandomCutPaste; from cutpaste_tf.backend import tf\n"
        "images = np.load(sys.argv[1]) / np.float32(255)\n"
        "data = tf.data.Dataset.from_tensor_slices(images).batch(3).map(RandomCutPaste(seed=2))\n"
        "streamed = np.concatenate([*data.as_numpy_iterator()])\n"
        "np.testing.assert_array_equal(np.asarray(RandomCutPaste(seed=2)(images)), streamed)\n"
        "np.save(sys.argv[2], streamed)\n"
    )
    paths = [str(tmp_path / "images.npy"), str(tmp_path / "jax.npy")]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", script, *paths], cwd=ROOT, env=environment, check=True)
    expected = np.asarray(RandomCutPaste(seed=2)(images / np.float32(255)))
    np.testing.assert_array_equal(np.load(tmp_path / "jax.npy"), expected)
