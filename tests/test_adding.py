"""A proxy task, a backbone, a density: one function or class, named in `settings` and entered in one dict."""

import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, command

import cutpaste_tf
from cutpaste_tf.augmentation.proxy_tasks import TASKS, against_normal
from cutpaste_tf.backend import keras
from cutpaste_tf.density.densities import DENSITIES
from cutpaste_tf.density.density import Density
from cutpaste_tf.detection import loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.images.reading import NORMAL, Item
from cutpaste_tf.images.sources import SOURCES, Source
from cutpaste_tf.networks.backbones import BACKBONES, Backbone
from cutpaste_tf.settings.augmentation import VIEWS
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import IMAGE_SIZES
from cutpaste_tf.settings.density import DENSITY_NAMES
from cutpaste_tf.settings.network import BACKBONE_FACTS, BackboneFacts


def _inverted(view, seed, settings):
    return 1.0 - view


def _one_convolution(stem):
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 5, strides=4, name="only")(image), name="one_convolution")


class DistanceFromMean(Density):
    """The log density of a Gaussian of variance 1, but for a constant."""

    def _fit(self, features):
        self._mean = features.mean(axis=0)

    def _score(self, features):
        return -0.5 * np.sum((features - self._mean) ** 2, axis=1)

    def _score_gradient(self, features):
        return features - self._mean

    def to_arrays(self):
        return {"mean": self._mean}

    def restore(self, arrays):
        self._mean = arrays["mean"]
        return self


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setitem(VIEWS, "inverted", ("normal", "inverted"))
    monkeypatch.setitem(TASKS, "inverted", against_normal(_inverted))
    monkeypatch.setitem(BACKBONE_FACTS, "one_convolution", BackboneFacts())
    monkeypatch.setitem(BACKBONES, "one_convolution", Backbone(build=_one_convolution))
    monkeypatch.setitem(DENSITIES, "distance", lambda settings: DistanceFromMean(l2_normalize=settings.l2_normalize))
    DENSITY_NAMES.append("distance")
    yield
    DENSITY_NAMES.remove("distance")


FLAGS = ["--image_size=32", "--batch_size=4", "--epochs=1", "--steps_per_epoch=2", "--scar_max_length=20"]


def test_a_run_of_what_was_added(added, category, tmp_path, monkeypatch, capsys):
    """Trained, evaluated with heat maps, and loaded, by the command lines and from Python."""
    monkeypatch.chdir(tmp_path)
    chosen = ["--proxy_task=inverted", "--backbone=one_convolution", "--density=distance"]
    command("train_main.py", f"--data={category}", "--output_dir=run", *FLAGS, *chosen)
    command("eval_main.py", "--run_dir=run")
    result = json.loads((tmp_path / "run/eval/metrics.json").read_text())
    assert (result["density"], result["feature_dimensions"]) == ("distance", 4)
    assert result["pixel_auroc"] is not None
    detector = loading.load("run")
    assert detector.network.feature("only").output.shape == (None, 4)
    assert np.isfinite(detector.score(np.zeros((1, 50, 40, 3), np.uint8)).scores).all()
    capsys.readouterr()
    command("train_main.py", "--help")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("inverted", "one_convolution", "distance"))


def test_a_backbone_without_weights_refuses_them(added, category, tmp_path):
    config = TINY.replaced(data=str(category), backbone="one_convolution", weights="some.npz")
    with pytest.raises(InputError, match="--weights is given, but there are no pretrained weights for this --backbone"):
        cutpaste_tf.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_of_data(monkeypatch, category, tmp_path):
    def read(name, part, folder):
        files = sorted((category / part / "good").iterdir())
        return (Item(f"{part}/{file.name}", file, (), NORMAL, "good") for file in files)

    monkeypatch.setitem(SOURCES, "camera", Source(("left", "right"), read))
    monkeypatch.setitem(IMAGE_SIZES, "camera", 32)
    config = TINY.replaced(data="camera/left", image_size=0, epochs=0)
    assert config.resolved().data.size == (32, 32)
    cutpaste_tf.train(config, tmp_path / "run")
    assert cutpaste_tf.evaluate(tmp_path / "run")["test_normal"] == 3
    with pytest.raises(InputError, match="camera/NAME has: left, right"):
        cutpaste_tf.train(config.replaced(data="camera/top"), tmp_path / "other")


def test_what_is_not_there_is_an_error_that_lists_what_is():
    with pytest.raises(InputError, match=r"--proxy_task=inverted is unknown; it must be one of: cutpaste_3way, "):
        Config.of(proxy_task="inverted")


def test_views_of_the_added_task(added):
    settings = Config.of(proxy_task="inverted", translate=0.0, base_jitter=0.0).augmentation
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    views, labels = TASKS["inverted"](tf.constant(image), tf.constant([0, 1]), settings, (64, 64))
    np.testing.assert_allclose(views[1], 1 - image / 255, atol=1e-6)
    np.testing.assert_array_equal(labels, [0, 1])
