"""The detector on arrays: what a run gives, by scikit-learn's conventions."""

import numpy as np
import pytest
from conftest import write_image
from sklearn.base import clone

from cutpaste_tf import Config, InputError, OutlierDetector, load, train

TRAINED = {"backbone": "toy", "stem": "imagenet", "image_size": 32, "epochs": 1, "steps_per_epoch": 3, "batch_size": 6}
PATCHES = {
    "backbone": "toy",
    "stem": "imagenet",
    "image_size": 64,
    "epochs": 0,
    "patch_size": 32,
    "density_mode": "shared",
}


@pytest.fixture(scope="module")
def normal():
    return np.random.default_rng(0).normal(120, 20, (24, 32, 32, 3)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("settings", [TRAINED, PATCHES], ids=["image model", "patch model"])
def test_it_decides_as_a_run_does(settings, normal, tmp_path):
    for index, image in enumerate(normal):
        write_image(tmp_path / f"parts/{index:02d}.png", image)
    train(Config.of(data=str(tmp_path / "parts"), **settings), tmp_path / "run")
    run = load(tmp_path / "run")
    model = OutlierDetector(Config.of(**settings)).fit(normal)
    images = np.concatenate([normal[:3], 255 - normal[:3] // 4])
    scores = run.score(images).scores
    np.testing.assert_allclose(-model.score_samples(images), scores, rtol=1e-6)
    decisions = run.decide(scores)
    assert decisions is not None
    np.testing.assert_array_equal(model.predict(images) == -1, decisions.anomalous)
    np.testing.assert_allclose(model.decision_function(images), model.score_samples(images) - model.offset_)
    assert set(model.fit_predict(normal)) <= {1, -1}


def test_it_follows_the_conventions_of_scikit_learn(normal):
    model = OutlierDetector(Config.of(**PATCHES), verbose=False)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ValueError, match="not fitted"):
        model.predict(normal)


@pytest.mark.parametrize(
    ("settings", "images", "message"),
    [
        ({"data": "parts"}, np.zeros((4, 32, 32, 3), np.uint8), "have no data"),
        ({}, np.zeros((4, 32, 32), np.uint8), r"expected RGB, uint8"),
        ({}, np.zeros((4, 32, 32, 3), np.uint8), "4 images, all alike, give no threshold"),
        ({"false_alarm_rate": 0.01}, np.zeros((4, 32, 32, 3), np.uint8), "is below"),
    ],
)
def test_bad_input_is_refused(settings, images, message):
    with pytest.raises(InputError, match=message):
        OutlierDetector(Config.of(**TRAINED | settings)).fit(images)
