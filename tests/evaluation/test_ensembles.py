"""Several runs as one detector."""

import csv
import json

import numpy as np
import pytest
from conftest import TINY, command, draw_category

import cutpaste_tf
from cutpaste_tf.detection import loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources

PATCHES = TINY.replaced(epochs=0, image_size=64, patch_size=32, extract_size=32, stride=8, density_mode="shared")


@pytest.fixture(params=["image", "patches"])
def members(request, copied_run, category, tmp_path):
    config = TINY.replaced(epochs=0) if request.param == "image" else PATCHES
    return [copied_run(config.replaced(seed=seed), category, tmp_path / f"run{seed}") for seed in range(2)]


def _scores(folder):
    with (folder / "scores.csv").open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def test_an_ensemble_scores_by_the_mean_of_log_densities(members, category, tmp_path):
    command("eval_main.py", f"--run_dir={','.join(map(str, members))}", f"--output_dir={tmp_path}/both")
    detectors = [loading.load(member) for member in members]
    examples = sources.read_test(category, detectors[0].config.data.size)
    answers = [member.score(examples.images, heat_maps=True) for member in detectors]
    maps = [answer.heat_maps for answer in answers]
    if detectors[0].config.patch_size:
        # An image's score is the maximum of its map; upsampling is linear, so that the mean of maps is the mean's map.
        expected = np.mean(maps, axis=0).max(axis=(1, 2))
    else:
        expected = np.mean([answer.scores for answer in answers], axis=0)
    np.testing.assert_allclose(_scores(tmp_path / "both"), expected, rtol=1e-3, atol=1e-3)
    assert not np.allclose(_scores(tmp_path / "both"), answers[0].scores)
    result = json.loads((tmp_path / "both/metrics.json").read_text())
    assert result["ensemble"] == [str(member) for member in members]
    assert (tmp_path / "both/heatmaps.png").is_file()


def test_what_is_no_ensemble_is_refused(copied_run, category, tmp_path):
    first = copied_run(TINY.replaced(epochs=0), category, tmp_path / "first")
    with pytest.raises(InputError, match="An ensemble, or a detector that is not in a run, needs an --output_dir"):
        cutpaste_tf.evaluate([first, first])
    patches = copied_run(PATCHES, category, tmp_path / "patches")
    with pytest.raises(
        InputError, match=r"patches has --patch_size=32 but .*first has 0; in an ensemble they must be the same"
    ):
        cutpaste_tf.evaluate([first, patches], output_dir=tmp_path / "x")
    other = draw_category(tmp_path / "other")
    (other / "train/good/000.png").unlink()
    cutpaste_tf.train(TINY.replaced(epochs=0, data=str(other)), tmp_path / "third")
    with pytest.raises(InputError, match=r"third and .*first were trained on different images"):
        cutpaste_tf.evaluate([first, tmp_path / "third"], output_dir=tmp_path / "x")
    assert not (tmp_path / "x").exists()
