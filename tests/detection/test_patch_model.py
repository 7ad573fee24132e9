"""Patch models and GradCAM from the commands: training on crops, dense evaluation, heat maps."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, stream_of, write_image
from PIL import Image
from sklearn.metrics import roc_auc_score

import cutpaste_tf
from cutpaste_tf.augmentation.proxy_tasks import TASKS
from cutpaste_tf.detection import dense, loading
from cutpaste_tf.detection.patch_detector import PatchDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import sources
from cutpaste_tf.images.synthetic import SyntheticOptions
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import checkpoint

PATCHES = TINY.replaced(
    image_size=64, patch_size=32, extract_size=32, stride=8, epochs=1, steps_per_epoch=2, scar_max_length=20
)


def _train(category, folder, **changes):
    config = PATCHES.replaced(data=str(category), **changes)
    cutpaste_tf.train(config, folder, checkpoint_minutes=0)
    return config


def _metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def patch_run(copied_run, category, tmp_path):
    return copied_run(PATCHES.replaced(epochs=0), category, tmp_path / "patches")


def test_crops_are_taken_anywhere_before_the_patch_is_pasted():
    config = PATCHES.replaced(proxy_task="cutpaste", translate=0.0, base_jitter=0.0, patch_jitter=0.0)
    ramp = np.stack(np.broadcast_arrays(np.arange(64)[:, None], np.arange(64), 7), axis=-1).astype(np.uint8)
    corners = set()
    for number in range(20):
        views, _ = TASKS["cutpaste"](tf.constant(ramp), tf.constant([3, number]), config.augmentation, config.data.size)
        normal, pasted = np.round(views.numpy() * 255).astype(int)
        top, left, _ = normal[0, 0]
        np.testing.assert_array_equal(normal, ramp[top : top + 32, left : left + 32])
        corners.add((top, left))
        # The pasted patch is from inside the same crop: no value from elsewhere in the image.
        top, left = np.median(pasted[:, :, 0] - np.arange(32)[:, None]), np.median(pasted[:, :, 1] - np.arange(32))
        assert pasted[:, :, 0].min() >= top
        assert pasted[:, :, 0].max() <= top + 31
        assert pasted[:, :, 1].min() >= left
        assert pasted[:, :, 1].max() <= left + 31
    assert len(corners) > 15
    tops, lefts = zip(*corners, strict=True)
    assert min(tops) < 8
    assert max(tops) > 24
    assert min(lefts) < 8
    assert max(lefts) > 24


def test_batches_are_of_crops_and_their_size_decides_the_stem():
    images = np.zeros((3, 64, 64, 3), np.uint8)
    views, _ = next(iter(stream_of(images, PATCHES)))
    assert views.shape == (6, 32, 32, 3)
    assert Config.of(patch_size=64).resolved().network.stem == "small"
    assert Config.of(patch_size=128).resolved().network.stem == "imagenet"


@pytest.mark.parametrize("mode", ["shared", "per_location"])
def test_a_patch_model_localizes(category, tmp_path, mode, capsys):
    run = tmp_path / "run"
    config = _train(category, run, density_mode=mode, epochs=0)  # the run that is killed, below, trains
    cutpaste_tf.evaluate(run, category)
    result = _metrics(run / "eval")
    assert result["density_mode"] == mode
    assert set(result["pixel_auroc_by_defect"]) == set(result["aupro_by_defect"]) == {"square"}
    for name in ("good/000.png", "square/002.png"):
        assert Image.open(run / "eval/heatmaps" / name).size == (4 * 2 * 64, 17 + 2 * 64 + 29)  # twice as large
    assert (run / "eval/heatmaps.png").is_file()
    assert "pixel AUROC" in capsys.readouterr().out
    with np.load(run / "eval/patch_scores.npz") as arrays:
        scores = arrays["test_patch_scores"]
    assert scores.shape == (6, 5, 5)
    assert scores.min() >= 0
    # The detector alone, as loaded from its folder, says the same; an image's score is its heat map's maximum.
    loaded = loading.load(run / "detector")
    examples = sources.read_test(category, 64)
    pictures = examples.images
    np.testing.assert_allclose(loaded.embed(pictures), scores, rtol=1e-4)
    with (run / "eval/scores.csv").open() as file:
        written = [float(row["score"]) for row in csv.DictReader(file)]
    maps = loaded.score(pictures, heat_maps=True).heat_maps
    assert maps.shape == (6, 64, 64)
    truth = [np.zeros((64, 64), bool) if mask is None else mask for mask in examples.masks]
    assert result["pixel_auroc"] == pytest.approx(100 * roc_auc_score(np.ravel(truth), maps.ravel()), abs=1e-3)
    np.testing.assert_allclose(written, maps.max(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(loaded.score(pictures).scores, written, rtol=1e-4)
    assert dense.places(config.data.size, config.features) == (5, 5)


def test_a_bright_square_is_where_the_heat_is(copied_run, category, tmp_path):
    config = PATCHES.replaced(epochs=0, backbone="resnet18")
    patch_run = copied_run(config, category, tmp_path / "patches")
    cutpaste_tf.evaluate(patch_run, category, settings={"normalize_coverage": True})
    result = _metrics(patch_run / "eval_normalize_coverage=True")
    assert result["pixel_auroc"] > 75


def test_dense_scoring_can_be_given_anew(patch_run, category, monkeypatch):
    cutpaste_tf.evaluate(patch_run, category)
    fits, fit = [], PatchDetector.fit
    monkeypatch.setattr(PatchDetector, "fit", lambda *a, **k: fits.append(1) or fit(*a, **k))
    cutpaste_tf.evaluate(patch_run, category, settings={"smoothing_sigma": 3.0})
    assert not fits  # only what becomes of the patches' scores changes
    cutpaste_tf.evaluate(patch_run, category / "test/square", settings={"density_mode": "shared"})
    assert not fits  # as `auto` had decided
    settings = {"dense": "fast", "feature": "layer2", "stride": 4}
    cutpaste_tf.evaluate(patch_run, category, settings=settings)
    assert len(fits) == 1
    result = _metrics(patch_run / "eval_dense=fast_feature=layer2_stride=4")
    assert (result["dense"], result["feature"], result["stride"]) == ("fast", "layer2", 4)
    cutpaste_tf.evaluate(patch_run, category, settings={**settings, "smoothing_sigma": 3.0})
    assert len(fits) == 1  # scores were kept
    write_image(category / "train/good/000.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InputError, match="training images have changed"):
        cutpaste_tf.evaluate(patch_run, category, settings={"density_mode": "per_location"})


def test_a_run_killed_while_its_density_is_fitted_goes_on(category, tmp_path, monkeypatch):
    trained = []

    def killed(feature, *_):
        trained.append([np.array(variable) for variable in feature.weights])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dense, "function", killed)
        with pytest.raises(KeyboardInterrupt):
            _train(category, tmp_path / "run")
    assert not (tmp_path / "run/detector").exists()
    steps = []
    monkeypatch.setattr(checkpoint, "save", lambda *a: steps.append(a))
    _train(category, tmp_path / "run")
    assert (tmp_path / "run/detector").is_dir()
    assert not steps  # nothing was trained again
    weights = loading.load(tmp_path / "run/detector").network.model.weights
    for weight, other in zip(trained[0], weights, strict=True):
        np.testing.assert_array_equal(weight, np.asarray(other))


def test_without_masks_there_are_image_figures_only(patch_run, category, capsys):
    shutil.rmtree(category / "ground_truth")
    cutpaste_tf.evaluate(patch_run, category)
    result = _metrics(patch_run / "eval")
    assert result["image_auroc"] is not None
    assert (result["pixel_auroc"], result["aupro"]) == (None, None)
    out = capsys.readouterr().out
    assert "3 of 3 anomalous images have no mask" in out
    assert "pixel AUROC" not in out
    assert (patch_run / "eval/heatmaps/square/000.png").is_file()


def test_an_image_model_without_masks_says_so_and_localizes_if_asked(tiny_run, category, capsys):
    shutil.rmtree(category / "ground_truth")
    cutpaste_tf.evaluate(tiny_run, category)
    assert "There are no masks (ground_truth/DEFECT/NAME_mask.png)" in capsys.readouterr().out
    assert not (tiny_run / "eval/heatmaps").exists()
    options = EvaluationOptions(gradcam_layer="layer4_1")
    cutpaste_tf.evaluate(tiny_run, category, options=options)
    assert (tiny_run / "eval_gradcam_layer=layer4_1/heatmaps/square/000.png").is_file()


def test_an_empty_mask_is_no_mask(patch_run, category, capsys):
    for path in (category / "ground_truth/square").iterdir():
        write_image(path, np.zeros((40, 40), np.uint8))
    shutil.copytree(category / "test/square", category / "test/other")
    write_image(category / "ground_truth/other/000_mask.png", np.eye(40, dtype=np.uint8))
    cutpaste_tf.evaluate(patch_run, category)
    result = _metrics(patch_run / "eval")
    assert result["pixel_auroc"] is not None
    assert set(result["pixel_auroc_by_defect"]) == {"other"}
    assert "5 of 6 anomalous images have no mask " in capsys.readouterr().out


def test_settings_of_image_models_are_refused(patch_run, category):
    with pytest.raises(InputError, match="--kde_bandwidth: a patch model does not use this"):
        cutpaste_tf.evaluate(patch_run, category, settings={"kde_bandwidth": 0.2})


def test_what_training_decided_is_refused(patch_run, category):
    with pytest.raises(InputError, match="epochs: an evaluation can change only these settings: normal_name, "):
        cutpaste_tf.evaluate(patch_run, category, settings={"epochs": 3})


def test_plain_images_get_heat_maps(patch_run, category):
    cutpaste_tf.evaluate(patch_run, category / "test/square")
    assert len(list((patch_run / "eval_data=square/heatmaps").glob("*.png"))) == 3


def test_a_mask_of_another_size_is_found_before_any_long_work(patch_run, category, monkeypatch):
    write_image(category / "ground_truth/square/001_mask.png", np.zeros((40, 41), np.uint8))
    monkeypatch.setattr(PatchDetector, "embed", None)
    with pytest.raises(InputError, match=r"001_mask.png has 41 x 40 pixels, but its image .* has 40 x 40"):
        cutpaste_tf.evaluate(patch_run, category)


def test_an_image_model_localizes_by_gradcam(tiny_run, category, tmp_path, capsys):
    cutpaste_tf.evaluate(tiny_run, category)
    result = _metrics(tiny_run / "eval")
    examples = sources.read_test(category, 32)
    maps = loading.load(tiny_run / "detector").score(examples.images, heat_maps=True).heat_maps
    truth = [np.zeros((32, 32), bool) if mask is None else mask for mask in examples.masks]
    assert result["pixel_auroc"] == pytest.approx(100 * roc_auc_score(np.ravel(truth), maps.ravel()), abs=1e-3)
    assert "pixel AUROC" in capsys.readouterr().out
    assert (tiny_run / "eval/heatmaps/square/001.png").is_file()
    options = EvaluationOptions(gradcam_layer="layer2_0_conv1")
    cutpaste_tf.evaluate(tiny_run, category, options=options)
    other = _metrics(tiny_run / "eval_gradcam_layer=layer2_0_conv1")
    assert other["image_auroc"] == result["image_auroc"]
    assert other["pixel_auroc"] != result["pixel_auroc"]
    cutpaste_tf.evaluate(tiny_run, category, options=EvaluationOptions(heat_maps=False))
    assert "pixel_auroc" not in _metrics(tiny_run / "eval")
    assert not (tiny_run / "eval/heatmaps").exists()
    with pytest.raises(InputError, match=r"--gradcam_layer=conv9: .* has no such layer"):
        cutpaste_tf.evaluate(tiny_run, category, options=EvaluationOptions(gradcam_layer="conv9"))
    assert other["gradcam_layer"] == "layer2_0_conv1"
    refused = EvaluationOptions(heat_maps=False, gradcam_layer="layer2_0_conv1")
    with pytest.raises(InputError, match="--gradcam_layer and --noheat_maps are both given"):
        cutpaste_tf.evaluate(tiny_run, category, options=refused)
    with pytest.raises(InputError, match="--stride: an image model does not use this"):
        cutpaste_tf.evaluate(tiny_run, category, settings={"stride": 8})


def test_synthetic_anomalies_have_masks(tiny_run, category):
    options = SyntheticOptions("square", "color", "", 0)
    cutpaste_tf.evaluate(tiny_run, category, options=EvaluationOptions(synthetic=options))
    assert _metrics(tiny_run / "eval_square_color")["pixel_auroc"] is not None
