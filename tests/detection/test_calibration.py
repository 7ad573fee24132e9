"""The threshold from normal images alone, and what evaluations say by it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw_category, write_image

import cutpaste_tf
from cutpaste_tf.detection import calibration, loading
from cutpaste_tf.detection.calibration import Calibration
from cutpaste_tf.detection.image_detector import ImageDetector
from cutpaste_tf.detection.patch_detector import PatchDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import sources
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.scoring import DecisionSettings

PATCHES = TINY.replaced(image_size=64, patch_size=32, extract_size=32, stride=8, epochs=0, scar_max_length=20)


def _calibration(count):
    return Calibration(np.arange(1.0, count + 1), np.empty(0))


@pytest.mark.parametrize(("count", "rate", "rank"), [(19, 0.05, 19), (99, 0.05, 95), (99, 0.01, 99), (50, 0.1, 46)])
def test_the_threshold_is_an_order_statistic(count, rate, rank):
    """The ceil((n + 1)(1 - rate))-th smallest."""
    assert _calibration(count).threshold(rate) == rank
    low, high = _calibration(count).spread(rate)
    assert low < rate < high or rank == count


def test_of_exchangeable_images_no_more_are_false_alarms_than_asked_for():
    rng = np.random.default_rng(0)
    settings, alarms, inside, rounds = DecisionSettings(false_alarm_rate=0.1), [], 0, 400
    for _ in range(rounds):
        calibrated = Calibration(np.sort(rng.gamma(2.0, size=60)), np.empty(0))
        decided = calibrated.decide(rng.gamma(2.0, size=500), settings)
        alarms.append(np.mean(decided.anomalous))
        low, high = calibrated.spread(0.1)
        inside += low - 0.03 <= alarms[-1] <= high + 0.03  # of 500 images a rate is known to 0.02
        np.testing.assert_array_equal(decided.anomalous, decided.p_values <= 0.1)
    assert 0.08 < np.mean(alarms) <= 0.105
    assert inside > 0.9 * rounds


def test_a_p_value_counts_the_normal_images_that_score_so_high():
    p_values = _calibration(9).p_values(np.array([0.0, 1.0, 8.5, 9.0, 9.5]))
    np.testing.assert_allclose(p_values, [1.0, 1.0, 0.2, 0.2, 0.1])


def test_too_few_images_tell_no_small_rate():
    with pytest.raises(InputError, match=r"--false_alarm_rate=0.05 is below 0.0667, the least that 14 normal images"):
        _calibration(14).rate(DecisionSettings(false_alarm_rate=0.05))
    assert _calibration(14).rate(DecisionSettings(false_alarm_rate=0.0667)) == 0.0667
    assert _calibration(14).rate(DecisionSettings()) == 1 / 15
    assert _calibration(300).rate(DecisionSettings()) == 0.05


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [("folder", [0, 0, 1, 1, 1]), ("prefix", [0, 0, 1, 1, 2]), ("none", None)],
)
def test_near_duplicates_are_told_by_folder_or_name(group_by, expected):
    paths = ["a/x_01.png", "a/x_02.png", "b/cam1_7.png", "b/cam1_12.png", "b/y.png"]
    data = TrainingData({path: path for path in paths}, 255)
    actual = calibration.groups(data, group_by)
    np.testing.assert_array_equal(actual, expected)
    if group_by != "none":
        with pytest.raises(InputError, match=rf"--group_by={group_by}: all 2 training images form one group"):
            calibration.groups(TrainingData({path: path for path in paths[:2]}, 255), group_by)


def test_copies_of_an_image_are_one_group():
    """They join the groups that they are in; where nothing but copies is left, each stands for itself."""
    data = TrainingData({"a/0.png": "p", "a/1.png": "q", "b/0.png": "p", "b/1.png": "r", "c/0.png": "s"}, 255)
    np.testing.assert_array_equal(calibration.groups(data, "none"), [0, 1, 0, 2, 3])
    np.testing.assert_array_equal(calibration.groups(data, "folder"), [0, 0, 0, 0, 1])
    assert calibration.groups(TrainingData({"a.png": "p", "b.png": "p"}, 255), "none") is None


def test_frames_of_a_scene_do_not_vouch_for_each_other():
    """Twins among the training images make single images look known; groups of them do not."""
    rng = np.random.default_rng(0)
    scenes = np.repeat(rng.normal(size=(40, 30)), 5, axis=0)
    features = (scenes + 0.01 * rng.normal(size=scenes.shape)).astype(np.float32)
    paths = [f"scene{index // 5}_{index % 5}.png" for index in range(200)]
    data = TrainingData({path: path for path in paths}, 255)
    new = (rng.normal(size=(200, 30)) + 0.01 * rng.normal(size=(200, 30))).astype(np.float32)
    alarms = {}
    for group_by in ("none", "prefix"):
        config = Config.of(reg_covar=1e-3, l2_normalize=False, group_by=group_by)
        detector = ImageDetector(Path("unused"), config, data)
        detector.fit_features(features, calibration.groups(data, group_by))
        decided = detector.calibration.decide(detector.negative_log_density(new), config.decision)
        alarms[group_by] = np.mean(decided.anomalous)
    assert alarms["none"] > 0.5
    assert alarms["prefix"] < 0.15


def _metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def _rows(folder):
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("config", [TINY.replaced(epochs=0), PATCHES], ids=["image", "patches"])
def test_a_detector_knows_how_images_score_that_it_does_not_know(copied_run, category, tmp_path, config):
    """As a run without the image would score it."""
    run = copied_run(config, category, tmp_path / "run")
    stored = loading.load(run).calibration
    assert len(stored.scores) == 6
    train = category / "train/good"
    path = train / "003.png"
    image = sources.read_train(category, config.data.size).images[3]
    path.rename(tmp_path / "left_out.png")
    others = copied_run(config, category, tmp_path / "as before")  # the same network
    examples = sources.read_train(category, config.data.size)
    other = loading.load(others)
    again = loading.make(other.network.model, other.config, other.data).fit(examples.images)
    score = again.score(image[None]).scores[0]
    assert np.min(np.abs(stored.scores - score)) < 1e-4 * abs(score)
    assert (len(stored.pixels) == 6) == bool(config.patch_size)


def test_an_evaluation_decides(tiny_run, category):
    result = cutpaste_tf.evaluate(tiny_run, category)
    stored, rows = loading.load(tiny_run).calibration, _rows(tiny_run / "eval")
    assert result["calibration_images"] == 6
    assert result["false_alarm_rate"] == pytest.approx(1 / 7)
    assert result["threshold"] == stored.scores[-1]
    called = [row["decision"] == "anomalous" for row in rows]
    assert called == [float(row["score"]) > result["threshold"] for row in rows]
    np.testing.assert_allclose(
        [float(row["p_value"]) for row in rows],
        stored.p_values(np.array([float(row["score"]) for row in rows])),
        atol=1e-6,
    )
    labels = [row["label"] == "1" for row in rows]
    assert result["true_positives"] == sum(a and b for a, b in zip(called, labels, strict=True))
    assert result["false_positives"] == sum(a and not b for a, b in zip(called, labels, strict=True))
    assert result["recall"] == pytest.approx(100 * result["true_positives"] / 3)
    assert result["recall_by_defect"] == {"square": result["recall"]}
    assert result["best_f1_by_test_labels"] >= result["f1"]
    other = cutpaste_tf.evaluate(tiny_run, category, settings={"false_alarm_rate": 0.5})
    assert other["threshold"] == stored.scores[3]
    assert (tiny_run / "eval_false_alarm_rate=0.5").is_dir()


def test_a_rate_that_cannot_be_told_is_refused_before_any_work(tiny_run, category, monkeypatch):
    monkeypatch.setattr(ImageDetector, "embed", None)
    with pytest.raises(InputError, match=r"the least that 6 normal images"):
        cutpaste_tf.evaluate(tiny_run, category, settings={"false_alarm_rate": 0.05})


@pytest.mark.parametrize("config", [TINY.replaced(epochs=0), PATCHES], ids=["image", "patches"])
def test_other_normal_images_can_give_the_threshold(copied_run, category, tmp_path, config, capsys):
    run = copied_run(config, category, tmp_path / "run")
    fresh = draw_category(tmp_path / "other") / "train/good"
    rng = np.random.default_rng(1)
    for path in sorted(fresh.iterdir()):
        write_image(path, rng.integers(0, 255, (40, 40, 3), np.uint8))
    result = cutpaste_tf.evaluate(run, category, options=EvaluationOptions(calibration_data=fresh))
    shown = capsys.readouterr().out
    assert "Warning" not in shown.partition("Scoring")[2]
    cutpaste_tf.evaluate(run, category, options=EvaluationOptions(calibration_data=category / "test/good"))
    assert "Warning: 3 of the test images also set the threshold" in capsys.readouterr().out
    images = sources.read_train(fresh, config.data.size).images
    np.testing.assert_allclose(result["threshold"], loading.load(run).score(images).scores.max(), rtol=1e-5)
    assert result["calibration_images"] == 6
    with pytest.raises(InputError, match=r"--calibration_data=.*: 6 of 6 images have the same pixels as training"):
        cutpaste_tf.evaluate(run, category, options=EvaluationOptions(calibration_data=category / "train/good"))


def test_a_density_given_anew_has_a_threshold_of_its_own(tiny_run, category):
    before = cutpaste_tf.evaluate(tiny_run, category)
    for settings in ({"density": "kde"}, {"reg_covar": 0.1}, {"density": "ledoit_wolf"}):
        assert cutpaste_tf.evaluate(tiny_run, category, settings=settings)["threshold"] != before["threshold"]
    (tiny_run / "detector/calibration.npz").unlink()  # as in a run of version 0.2
    assert cutpaste_tf.evaluate(tiny_run, category)["threshold"] == pytest.approx(before["threshold"])
    (tiny_run / "train_embeddings.npz").unlink()
    assert "threshold" not in cutpaste_tf.evaluate(tiny_run, category)
    (tiny_run / "detector/calibration.npz").write_bytes(b"half")
    with pytest.raises(InputError, match=r"calibration.npz is damaged \(not a file of arrays\)"):
        cutpaste_tf.evaluate(tiny_run, category)


def test_patches_given_anew_have_a_threshold_that_is_kept(copied_run, category, tmp_path, monkeypatch):
    run = copied_run(PATCHES, category, tmp_path / "run")
    first = cutpaste_tf.evaluate(run, category, settings={"stride": 16})
    monkeypatch.setattr(PatchDetector, "fit", None)
    again = cutpaste_tf.evaluate(run, category, settings={"stride": 16})
    assert again["threshold"] == first["threshold"]
    normalized = cutpaste_tf.evaluate(run, category, settings={"normalize_coverage": True})
    assert normalized["threshold"] != cutpaste_tf.evaluate(run, category)["threshold"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_by": "folder"}, "training images form one group"),
        ({"false_alarm_rate": 0.01}, "the least that 6 normal"),
    ],
)
def test_what_gives_no_threshold_is_refused_before_training(tiny_run, category, tmp_path, settings, message):
    config = TINY.replaced(data=str(category), **settings)
    with pytest.raises(InputError, match=message):
        cutpaste_tf.train(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match=message):
        cutpaste_tf.evaluate(tiny_run, category, settings=settings)
    assert not list(tiny_run.glob("eval*"))
