"""Whatever scores images offers the same: models of images and of patches, ensembles, exports, the pixels' baseline."""

import dataclasses
import io
import json

import numpy as np
import pytest
from conftest import TINY, draw_category

import cutpaste_tf
from cutpaste_tf.detection import calibration, loading
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.pixel_detector import PixelDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.serving.predict import predict
from cutpaste_tf.serving.stream import PredictionOptions

IMAGE = TINY.replaced(epochs=0)
PATCH = IMAGE.replaced(image_size=(64, 80), patch_size=32, extract_size=32, stride=8, density_mode="shared")
COMBINATION = PATCH.replaced(combine="feature=layer1; patch_size=32 feature=layer2 stride=16 density=nearest")
RATE = cutpaste_tf.ExportOptions(false_alarm_rate=0.3)


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    return draw_category(tmp_path_factory.mktemp("data") / "category")


@pytest.fixture(scope="module")
def detectors(tmp_path_factory, category):
    """One of each kind."""
    root = tmp_path_factory.mktemp("runs")
    configs = {"image": IMAGE, "other": IMAGE.replaced(seed=1), "patch": PATCH, "combination": COMBINATION}
    for name, config in configs.items():
        cutpaste_tf.train(config.replaced(data=str(category)), root / name, report=no_report)
    both = [root / "image", root / "other"]
    cutpaste_tf.export(root / "patch", root / "patch_export", options=RATE, report=no_report)
    cutpaste_tf.export(both, root / "both_export", options=RATE, report=no_report)
    examples = sources.read_train(category, 32)
    config = IMAGE.replaced(data=str(category))
    pixels = PixelDetector(config, TrainingData.of(examples)).fit(examples.images)
    return {
        "image": loading.load(root / "image"),
        "patch": loading.load(root / "patch"),
        "combination": loading.load(root / "combination"),
        "ensemble": loading.load(both),
        "export": loading.load(root / "patch_export"),
        "export of an ensemble": loading.load(root / "both_export"),
        "pixels": pixels,
    }


KINDS = ["image", "patch", "combination", "ensemble", "export", "export of an ensemble", "pixels"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_scores_evaluates_and_predicts_alike(kind, detectors, category, tmp_path):
    detector: Detector = detectors[kind]
    maps = kind != "pixels"
    images = sources.read_test(category, detector.size).images
    scores = detector.score(images, heat_maps=maps)
    assert scores.scores.dtype == np.float64
    assert scores.scores.shape == (6,)
    assert scores.heat_maps is None if not maps else scores.heat_maps.shape == (6, *detector.size)
    items = sources.list_test(category, detector.how_read)
    again = detector.score_set(ImageSet(items, detector.size, detector.how_read), heat_maps=False)
    extent = np.ptp(scores.scores)
    np.testing.assert_allclose(again.scores, scores.scores, rtol=0, atol=1e-6 * extent)
    assert len(detector.calibration.scores) == 6
    result = cutpaste_tf.evaluate(
        detector,
        category,
        options=cutpaste_tf.EvaluationOptions(heat_maps=maps),
        output_dir=tmp_path / "eval",
        report=no_report,
    )
    assert result["threshold"] in detector.calibration.scores
    assert (result.get("pixel_auroc") is not None) == maps
    rows = io.StringIO()
    predict(detector, str(category / "test"), rows, options=PredictionOptions(format="jsonl"), report=no_report)
    predicted = [json.loads(line)["score"] for line in rows.getvalue().splitlines()]
    np.testing.assert_allclose(predicted, scores.scores, rtol=0, atol=1e-6 * extent)
    assert detector.predict(images[0]).score == pytest.approx(scores.scores[0], abs=1e-6 * extent)


@pytest.mark.parametrize(("kind", "other"), [("patch", "export"), ("ensemble", "export of an ensemble")])
def test_an_export_scores_and_decides_as_what_it_is_of(kind, other, detectors, category):
    first, second = detectors[kind], detectors[other]
    images = sources.read_test(category, first.size).images
    ours, theirs = (detector.score(images, heat_maps=True) for detector in (first, second))
    np.testing.assert_allclose(theirs.scores, ours.scores, rtol=0, atol=1e-9 * np.ptp(ours.scores))
    np.testing.assert_allclose(theirs.heat_maps, ours.heat_maps, rtol=0, atol=1e-4 * ours.heat_maps.max())
    np.testing.assert_array_equal(second.calibration.scores, first.calibration.scores)
    np.testing.assert_array_equal(second.calibration.pixels, first.calibration.pixels)


def test_other_normal_images_give_the_threshold(detectors, category):
    """Also of an ensemble, by the mean of its members."""
    items = sources.list_test(category)[:3]
    for kind in ("image", "patch", "ensemble"):
        detector = detectors[kind].configured(detectors[kind].config)
        images = ImageSet(items, detector.size, detector.how_read)
        detector.calibrate(images)
        expected = detector.score(images.examples.images).scores
        np.testing.assert_allclose(detector.calibration.scores, np.sort(expected), rtol=1e-6)


def test_a_combination_is_the_mean_of_standardized_scores(detectors, category):
    """By the held-out training images; its members score as alone; a normal image has a heat of 1."""
    detector = detectors["combination"]
    assert len(detector.parts) == 3
    images = sources.read_test(category, detector.size).images
    expected = []
    for part in detector.parts:
        known = part.calibration.scores
        expected.append((part.score(images).scores - known.mean()) / known.std())
    np.testing.assert_allclose(detector.score(images).scores, np.mean(expected, axis=0), rtol=1e-6)
    held_out = np.mean([part.reduced(part.held_out_, None)[0] for part in detector.parts], axis=0)
    assert len(held_out) == len(detector.calibration.scores) == 6
    assert abs(detector.calibration.scores.mean()) < 1e-6
    patches = [part for part in detector.parts if part.maps_come_with_scores]
    heat = np.mean([part.score(images).heat_maps / np.median(part.calibration.pixels) for part in patches], axis=0)
    np.testing.assert_allclose(detector.score(images).heat_maps, heat, rtol=1e-4, atol=1e-6)
    alone = loading.make(detector.network.source, detector.parts[2].given, detector.data).fit(
        sources.read_train(category, detector.size).images
    )
    np.testing.assert_allclose(alone.score(images).scores, detector.parts[2].score(images).scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature=layer1 speed=3", "--combine: speed is not one of patch_size"),
        ("patch_size=large", "patch_size=large is not a value of type int"),
        ("l2_normalize=yes", "l2_normalize=yes is not a value of type bool"),
        ("stride=8", "--stride: only for patch models"),
    ],
)
def test_a_combination_that_cannot_be_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        PATCH.replaced(combine=text)


def test_what_a_kind_has_not_is_refused(detectors, category, tmp_path):
    for kind, settings, message in [
        ("image", {"stride": 8}, "--stride: an image model does not use this"),
        ("patch", {"kde_bandwidth": 0.2}, "--kde_bandwidth: a patch model does not use this"),
        ("combination", {"density": "nearest"}, "--density: the run combines several detectors"),
        ("export of an ensemble", {"density": "kde"}, "which fixes the settings of density"),
    ]:
        with pytest.raises(InputError, match=message):
            cutpaste_tf.evaluate(detectors[kind], category, settings=settings, output_dir=tmp_path)
    with pytest.raises(InputError, match="a Gaussian on 32 x 32 pixels cannot be exported"):
        detectors["pixels"].graph(single=False)
    with pytest.raises(InputError, match="has no heat maps; omit --heat_maps"):
        detectors["pixels"].score(np.zeros((1, 8, 8, 3), np.uint8), heat_maps=True)


@pytest.mark.parametrize("kind", ["image", "patch", "ensemble", "pixels"])
def test_a_threshold_can_be_given_in_place_of_a_rate(kind, detectors, category, tmp_path):
    detector = detectors[kind]
    normal = detector.calibration.scores
    threshold = float((normal[2] + normal[3]) / 2)  # 3 of 6 normal images are above: (1 + 3) / (1 + 6)
    options = cutpaste_tf.EvaluationOptions(threshold=threshold, heat_maps=False, page=False)
    result = cutpaste_tf.evaluate(detector, category, options=options, output_dir=tmp_path / "eval", report=no_report)
    assert result["threshold"] == threshold
    assert result["false_alarm_rate"] == pytest.approx(4 / 7)
    by_rate = cutpaste_tf.evaluate(
        detector,
        category,
        settings={"false_alarm_rate": 4 / 7},
        options=options._replace(threshold=None),
        output_dir=tmp_path / "eval",
        report=no_report,
    )
    assert by_rate["threshold"] <= threshold
    rate = {"false_alarm_rate": 0.3}
    with pytest.raises(InputError, match="--threshold and --false_alarm_rate are both given"):
        cutpaste_tf.evaluate(detector, category, settings=rate, options=options, output_dir=tmp_path / "eval")


def test_an_export_decides_by_the_threshold_that_it_was_given(detectors, category, tmp_path):
    run = tmp_path / "run"
    cutpaste_tf.train(IMAGE.replaced(data=str(category)), run, report=no_report)
    threshold = float(np.median(loading.load(run).calibration.scores))
    options = cutpaste_tf.ExportOptions(threshold=threshold)
    record = cutpaste_tf.export(run, tmp_path / "export", options=options, report=no_report)
    assert record["threshold"] == threshold
    result = cutpaste_tf.evaluate(tmp_path / "export", report=no_report)
    assert (result["threshold"], result["false_alarm_rate"]) == (threshold, record["false_alarm_rate"])


@pytest.mark.parametrize("kind", ["image", "patch"])
def test_a_detector_of_version_0_2_still_loads(kind, detectors, category, tmp_path):
    """Its config.json had every value filled in, and no list of what was."""
    today, images = detectors[kind], sources.read_test(category, detectors[kind].size).images
    today.save(tmp_path / "detector")
    settings = dataclasses.asdict(today.config)
    (tmp_path / "detector/config.json").write_text(json.dumps(settings))
    loaded = loading.load(tmp_path / "detector")
    assert loaded.config == today.config
    np.testing.assert_array_equal(loaded.score(images).scores, today.score(images).scores)
    np.testing.assert_array_equal(loaded.held_out_, today.held_out_)


def test_boxes_agree_with_a_threshold_that_is_given(detectors, category):
    """A patch model's score is the maximum of its map: above the threshold there is a box, below there is none."""
    detector = detectors["patch"]
    examples = sources.read_test(category, 64)
    scores = detector.score(examples.images).scores
    for threshold in (scores.max() + 1, scores.min() - 1):
        given = detector.with_threshold(threshold)
        for image, score in zip(examples.images, scores, strict=True):
            result = given.predict(image)
            assert bool(result.boxes) == (score > threshold) == (result.decision == "anomalous")


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_is_a_number(threshold):
    with pytest.raises(InputError, match="must be a finite number"):
        calibration.check_one_given(threshold, None)


def test_settings_that_a_density_does_not_use_are_refused(detectors, category, tmp_path):
    config = PATCH.replaced(data=str(category), density_mode="auto")
    with pytest.raises(InputError, match="--coreset: --density=gaussian does not use this"):
        cutpaste_tf.train(config.replaced(coreset=9), tmp_path / "run", report=no_report)
    few = config.replaced(density="nearest", coreset=2, neighbors=5)
    with pytest.raises(InputError, match="--neighbors=5 is more than the --coreset=2 patches"):
        cutpaste_tf.train(few, tmp_path / "run", report=no_report)
    with pytest.raises(InputError, match="--neighbors: --density=gaussian does not use this"):
        cutpaste_tf.evaluate(detectors["patch"], category, output_dir=tmp_path / "eval", settings={"neighbors": 2})
