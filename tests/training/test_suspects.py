"""The training images that look least like the others are listed first."""

import numpy as np
import pytest
from conftest import TINY, draw_category, write_image

import cutpaste_tf
from cutpaste_tf.files import read_csv

PATCHES = {"patch_size": 32, "extract_size": 16, "stride": 8, "dense": "fast", "image_size": 32}


@pytest.mark.parametrize(
    "settings",
    [{}, {"density": "nearest"}, PATCHES, {**PATCHES, "density": "nearest", "coreset": 50, "l2_normalize": False}],
)
def test_a_planted_defect_is_the_first_suspect(tmp_path, settings):
    category = draw_category(tmp_path / "category")
    write_image(category / "train/good/odd.png", np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    config = TINY.replaced(data=str(category), epochs=0, **settings)
    cutpaste_tf.train(config, tmp_path / "run")
    suspects = read_csv(tmp_path / "run/suspects.csv")
    assert suspects[0]["path"] == "train/good/odd.png"
    assert len(suspects) == 7
    scores = [float(row["score"]) for row in suspects]
    assert scores == sorted(scores, reverse=True)
    detector = cutpaste_tf.load(tmp_path / "run")
    np.testing.assert_allclose(scores[::-1], detector.calibration.scores, atol=1e-6)
