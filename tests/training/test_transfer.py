"""The two phases of A.4, their resumption, ResNet-18's stages, mixed precision, kept embeddings."""

import json
import os

import keras
import numpy as np
import pytest
from conftest import RESNET, TINY, networks_of, weights_after, write_image

import cutpaste_tf
from cutpaste_tf.detection import image_features
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import build
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting, sheet

TWO_PHASES = TINY.replaced(head_epochs=1, epochs=1, freeze_batch_norm="auto")


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("efficientnet_b0", marks=pytest.mark.slow)])
def test_each_phase_moves_what_it_should(backbone):
    config = Config.of(
        backbone=backbone, image_size=64, stem="imagenet", batch_size=6, head_epochs=1, epochs=1, learning_rate=0.1
    ).resolved()
    nets = networks_of(config)
    x = np.random.default_rng(0).uniform(0, 1, (6, 64, 64, 3)).astype(np.float32)
    y = np.array([0, 1, 2] * 2)

    def moved(phase):
        build.set_trainable(nets.backbone, head_only=phase.head_only, freezes_batch_norm=True)
        fitting.compile_classifier(nets.classifier, config.schedule, phase)
        nets.classifier.run_eagerly = True  # two steps take less time than their trace
        before = [np.array(variable) for variable in nets.classifier.weights]
        for _ in range(2):
            nets.classifier.train_on_batch(x, y)
        changed = [not np.array_equal(a, b) for a, b in zip(before, nets.classifier.weights, strict=True)]
        inside = {id(variable) for variable in nets.backbone.weights}
        frozen = {
            id(variable)
            for layer in nets.backbone.layers
            if isinstance(layer, keras.layers.BatchNormalization)
            for variable in layer.weights
        }
        groups = {"head": [], "backbone": [], "batch norm": []}
        for variable, change in zip(nets.classifier.weights, changed, strict=True):
            group = "batch norm" if id(variable) in frozen else "backbone" if id(variable) in inside else "head"
            groups[group].append(change)
        return {name: (all(values), any(values)) for name, values in groups.items()}

    head, everything = config.schedule.phases
    assert moved(head) == {"head": (True, True), "backbone": (False, False), "batch norm": (False, False)}
    # gamma and beta stay with the statistics, see `build.set_trainable`.
    assert moved(everything) == {"head": (True, True), "backbone": (True, True), "batch norm": (False, False)}


def test_batch_norm_trains_where_it_is_not_frozen():
    config = TWO_PHASES.replaced(freeze_batch_norm="no").resolved()
    nets = networks_of(config)
    build.set_trainable(nets.backbone, head_only=False, freezes_batch_norm=False)
    fitting.compile_classifier(nets.classifier, config.schedule, config.schedule.phases[1])
    before = [np.array(variable) for variable in nets.backbone.get_layer("bn1").weights]
    image = np.random.default_rng(0).uniform(0, 1, (6, 32, 32, 3)).astype(np.float32)
    nets.classifier.train_on_batch(image, np.array([0, 1, 2] * 2))
    for first, second in zip(before, nets.backbone.get_layer("bn1").weights, strict=True):
        assert not np.array_equal(first, second)


def test_each_phase_has_its_own_cosine():
    config = Config.of(backbone="efficientnet_b0", head_epochs=2, epochs=3, steps_per_epoch=4).resolved()
    head, everything = config.schedule.phases
    assert (head.start, head.end, everything.start, everything.end) == (0, 8, 8, 20)
    assert float(fitting.learning_rate_schedule(head)(4)) == pytest.approx(0.015)
    assert float(fitting.learning_rate_schedule(everything)(6)) == pytest.approx(0.00005)


@pytest.mark.slow
def test_resumes_inside_either_phase_and_between_them(category, tmp_path, monkeypatch):
    config = TWO_PHASES.replaced(data=str(category), epochs=2)
    whole = weights_after(config, category, tmp_path / "whole", monkeypatch)
    stopped = weights_after(config, category, tmp_path / "stopped", monkeypatch, stops=(2, 3, 5, 6))
    for first, second in zip(whole, stopped, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_stages_of_resnet18(tiny_run, category):
    nets = networks_of(RESNET)
    for feature, width in {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512, "layer2_0_bn1": 128}.items():
        assert build.feature_model(nets.feature, feature).output.shape == (None, width)
    cutpaste_tf.evaluate(tiny_run, category, settings={"feature": "layer4"})
    assert json.loads((tiny_run / "eval_feature=layer4/metrics.json").read_text())["feature"] == "layer4"
    cutpaste_tf.evaluate(tiny_run, category)
    last, pool = (np.load(tiny_run / f"{n}/embeddings.npz")["test_features"] for n in ("eval_feature=layer4", "eval"))
    np.testing.assert_allclose(last, pool, rtol=1e-4, atol=1e-5)


def test_an_unknown_feature_is_refused_before_a_run_begins(category, tmp_path):
    config = RESNET.replaced(data=str(category), feature="level7")
    with pytest.raises(InputError, match=r"--feature=level7: resnet18 has no 'level7'\. It has pool, layer1, layer2"):
        cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_mixed_precision_keeps_logits_and_features_in_float32(kind):
    keras.utils.set_random_seed(0)
    config = Config.of(image_size=64, stem="imagenet", precision=f"mixed_{kind}")
    nets = networks_of(config)
    assert keras.config.dtype_policy().name == "float32"  # what follows is not changed
    image = np.random.default_rng(0).uniform(0, 1, (4, 64, 64, 3)).astype(np.float32)
    assert nets.backbone(image).dtype == kind
    for model in (nets.feature, nets.embedding, nets.classifier, build.feature_model(nets.feature, "layer2")):
        assert model(image).dtype == "float32"
    assert {variable.dtype for variable in nets.classifier.trainable_variables} == {"float32"}
    plain = networks_of(config.replaced(precision="float32"))
    plain.classifier.set_weights(nets.classifier.get_weights())
    np.testing.assert_allclose(nets.feature(image), plain.feature(image), rtol=0.1, atol=0.05)


@pytest.fixture
def embedded(monkeypatch):
    """Counts how often features are computed."""
    calls = []
    embed = image_features.embed
    monkeypatch.setattr(
        image_features, "embed", lambda *arguments, **named: calls.append(1) or embed(*arguments, **named)
    )
    return calls


def test_embeddings_are_computed_once_and_stale_ones_noticed(tiny_run, category, embedded):
    for density in ("kde", "gaussian"):
        cutpaste_tf.evaluate(tiny_run, category, settings={"density": density})
    cutpaste_tf.evaluate(tiny_run, category)
    assert len(embedded) == 1
    default, again = (
        json.loads((tiny_run / name / "metrics.json").read_text()) for name in ("eval", "eval_density=gaussian")
    )
    assert default == again  # the density fitted anew is the one that was saved
    cutpaste_tf.evaluate(tiny_run, category, settings={"feature": "layer2", "density": "kde"})
    assert len(embedded) == 3  # training and test images
    cutpaste_tf.evaluate(tiny_run, category, settings={"feature": "layer2"})
    assert len(embedded) == 3
    path = category / "test/good/000.png"
    pictures = np.zeros((2, 40, 40, 3), np.uint8)
    pictures[1, 0, 0] = 1

    def replace(picture):
        content = write_image(path, picture).read_bytes()
        path.write_bytes(content.ljust(1000, b"\0"))  # of one size; what follows a PNG's end is not read

    replace(pictures[0])
    cutpaste_tf.evaluate(tiny_run, category)
    assert len(embedded) == 4
    stat = path.stat()
    replace(pictures[1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the content decides, not name, size or time
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    cutpaste_tf.evaluate(tiny_run, category)
    assert len(embedded) == 5
    os.utime(tiny_run / "detector/model.keras")
    cutpaste_tf.evaluate(tiny_run, category)
    assert len(embedded) == 5


def test_another_feature_of_changed_training_images_is_refused(tiny_run, category):
    write_image(category / "train/good/000.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InputError, match="training images have changed"):
        cutpaste_tf.evaluate(tiny_run, category, settings={"feature": "layer1"})


def test_what_does_not_touch_training_can_be_corrected(category, tmp_path):
    """A density that cannot be fitted does not cost the training: the corrected command goes on from its end."""
    config = TINY.replaced(data=str(category), reg_covar=0.0, test_data=str(category / "test/square"))
    with pytest.raises(InputError, match="raise --reg_covar"):
        cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    corrected = config.replaced(reg_covar=1e-6, test_data="")
    cutpaste_tf.train(corrected, tmp_path / "run", checkpoint_minutes=5)
    assert Config.read(tmp_path / "run/config.json") == Config.read(tmp_path / "run/detector/config.json") == corrected
    with pytest.raises(InputError, match="holds a run with reg_covar=1e-06"):
        cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)


def test_impossible_settings_are_refused_before_a_run_begins(category, tmp_path):
    config = TINY.replaced(data=str(category), density="mixture", mixture_components=7)
    with pytest.raises(InputError, match="--mixture_components=7 exceeds the number of training images"):
        cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    with pytest.raises(InputError, match="none is not a folder"):
        cutpaste_tf.train(
            TINY.replaced(data=str(category), test_data=str(tmp_path / "none")), tmp_path / "run", checkpoint_minutes=5
        )
    assert not (tmp_path / "run").exists()


def test_the_training_images_are_not_scored_as_test_images(category, tmp_path):
    good = category / "train/good"
    cutpaste_tf.train(TINY.replaced(data=str(good), epochs=0), tmp_path / "run", checkpoint_minutes=5)
    with pytest.raises(InputError, match="holds the training images but no test images; give those as --data"):
        cutpaste_tf.evaluate(tmp_path / "run", good)
    cutpaste_tf.evaluate(tmp_path / "run", category / "test")
    assert json.loads((tmp_path / "run/eval_data=test/metrics.json").read_text())["test_anomalous"] == 3


@pytest.mark.slow
def test_a_sheet_of_every_task_trains_nothing(category, tmp_path, capsys):
    sheet.show_augmentations(TINY.replaced(data=str(category)), tmp_path / "sheet")
    assert [path.name for path in (tmp_path / "sheet").iterdir()] == ["proxy_tasks.png"]
    assert (tmp_path / "sheet/proxy_tasks.png").stat().st_size > 10_000
    assert "Skipping cutswap" in capsys.readouterr().out
