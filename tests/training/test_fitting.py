"""Loss and schedule by hand, end-to-end runs, resumption after SIGKILL, and training on JAX."""

import csv
import importlib
import json
import threading
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import RESNET, TINY, logged, logged_steps, networks_of, stream_of

import cutpaste_tf
from cutpaste_tf import runs
from cutpaste_tf.detection import image_features, loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import sources
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import callbacks, fitting, stopping


def tiny_network():
    inputs = keras.Input((2,))
    x = keras.layers.Dense(3, use_bias=False, kernel_initializer=keras.initializers.RandomNormal(seed=1))(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("with_batch_norm", [True, False])
def test_l2_is_part_of_the_loss(with_batch_norm):
    config = Config.of(l2=0.5, l2_batch_norm=with_batch_norm).resolved()
    model = tiny_network()
    fitting.compile_classifier(model, config.schedule, config.schedule.phases[0])
    weights = {w.path.split("/")[-1]: np.asarray(w) for w in model.trainable_weights}
    counted = [w for name, w in weights.items() if with_batch_norm or name == "kernel"]
    expected = 0.5 * sum(np.sum(np.square(w)) for w in counted) / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_steps_follow_momentum_and_cosine_by_hand():
    """Three steps of w <- w + v, v <- m v - lr(t) (dCE/dw + l2 w), lr(t) = lr (1 + cos(pi t / T)) / 2."""
    config = Config.of(learning_rate=0.2, momentum=0.9, l2=0.1, epochs=2, steps_per_epoch=2).resolved()
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(inputs))
    fitting.compile_classifier(model, config.schedule, config.schedule.phases[0])
    kernel = np.asarray(model.trainable_weights[0], np.float64)
    velocity = np.zeros_like(kernel)
    rng = np.random.default_rng(0)
    for step in range(3):
        x, y = rng.normal(size=(4, 2)).astype(np.float32), np.array([0, 1, 2, 1])
        logits = x @ kernel
        probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        gradient = x.T @ (probability - np.eye(3)[y]) / 4 + 0.1 * kernel
        rate = 0.2 * (1 + np.cos(np.pi * step / 4)) / 2
        velocity = 0.9 * velocity - rate * gradient
        kernel = kernel + velocity
        model.train_on_batch(x, y)
        np.testing.assert_allclose(model.trainable_weights[0], kernel, atol=1e-5)


def run(config, category, folder, **options):
    cutpaste_tf.train(config, folder, checkpoint_minutes=options.get("checkpoint_minutes", 5.0))


def test_end_to_end(category, tmp_path, capsys):
    folder = tmp_path / "run"
    config = RESNET.replaced(data=str(category))
    run(config, category, folder)
    assert Config.read(folder / "detector/config.json") == config
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "augmentations.png", "config.json", "detector", "suspects.csv", "tensorboard", "train_embeddings.npz",
        "training_data.json", "train_log.csv",
    }  # fmt: skip
    with (folder / "train_log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6")]
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.03 * (1 + np.cos(np.pi * 5 / 6)) / 2, rel=1e-3)
    shown = capsys.readouterr().out
    assert "epoch 2/2  step 6/6  cross-entropy" in shown
    assert "images/s  left 0:00:00" in shown

    cutpaste_tf.evaluate(folder, category)
    result = json.loads((folder / "eval/metrics.json").read_text())
    with (folder / "eval/scores.csv").open() as file:
        scores = list(csv.DictReader(file))
    assert [row["path"] for row in scores][3] == "test/square/000.png"
    assert [row["label"] for row in scores] == ["0"] * 3 + ["1"] * 3
    labels, values = np.array([int(r["label"]) for r in scores]), np.array([float(r["score"]) for r in scores])
    pairs = (values[labels == 1][:, None] > values[labels == 0]).mean()
    assert result["image_auroc"] == pytest.approx(100 * pairs)
    assert result["train_images"] == 6
    for name in ("histogram.png", "roc.png"):
        assert (folder / "eval" / name).stat().st_size > 1000

    # The exported embeddings and the saved detector give the very scores that were written.
    with np.load(folder / "eval/embeddings.npz") as arrays:
        loaded = loading.load(folder / "detector")
        np.testing.assert_allclose(-loaded.density.score_samples(arrays["test_features"]), values, atol=1e-5)
        train = sources.read_train(category, 32)
        np.testing.assert_allclose(
            arrays["train_features"], image_features.embed(loaded.feature, train.images), atol=1e-5
        )
    images = sources.read_test(category, 32).images
    np.testing.assert_allclose(loaded.score(images).scores, values, rtol=1e-3, atol=1e-3)

    # The same command again does nothing; another configuration or other images are refused.
    before = (folder / "detector/model.keras").stat().st_mtime_ns
    run(config, category, folder)
    assert "already complete" in capsys.readouterr().out
    assert (folder / "detector/model.keras").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"holds a run with seed=0 \(now 1\)"):
        run(config.replaced(seed=1), category, folder)
    (category / "train/good/005.png").unlink()
    with pytest.raises(InputError, match="training images have changed"):
        run(config, category, folder)


def test_scores_without_an_auc(category, tmp_path, capsys):
    folder = tmp_path / "run"
    run(TINY.replaced(epochs=0, data=str(category)), category, folder)
    cutpaste_tf.evaluate(folder, category / "train/good", options=EvaluationOptions(allow_trained_images=True))
    assert "No AUC: of the 6 images, 0 are known to be normal and 0 to be anomalous" in capsys.readouterr().out
    assert json.loads((folder / "eval_data=good/metrics.json").read_text())["image_auroc"] is None
    assert not (folder / "eval_data=good/roc.png").exists()
    with (folder / "eval_data=good/scores.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == [""] * 6


def test_training_learns(category, tmp_path):
    """Six images without base augmentation: what differs from them was pasted, and that is soon learnt."""
    config = RESNET.replaced(
        data=str(category), image_size=64, batch_size=24, steps_per_epoch=30, base_jitter=0.0, translate=0.0
    )
    run(config, category, tmp_path / "run")
    last = logged(tmp_path / "run")[-1]
    assert float(last["accuracy"]) > 0.43  # over 720 views: chance is a third, 0.42 five sigma above it
    assert float(last["cross_entropy"]) < 0.97 * np.log(3)  # L2, which falls without learning, is not in it


def test_the_log_says_cross_entropy_and_l2_apart(category, tmp_path, monkeypatch, capsys):
    """The first step's, against the formulas on the very batch that it saw."""
    config = TINY.replaced(data=str(category), epochs=1, steps_per_epoch=1, l2=0.01)
    examples = sources.read_train(category, 32)
    keras.utils.set_random_seed(config.seed)
    nets = fitting.initial_networks(config.resolved())
    views, labels = next(iter(stream_of(examples.images, config)))
    l2 = 0.01 / 2 * sum(np.sum(np.square(np.asarray(w, np.float64))) for w in nets.classifier.trainable_weights)
    logits = np.asarray(nets.classifier(views.numpy(), training=True), np.float64)
    logits -= np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    cross_entropy = -np.mean(logits[np.arange(6), labels.numpy()])
    run(config, category, tmp_path / "run")
    (row,) = logged(tmp_path / "run")
    assert float(row["cross_entropy"]) == pytest.approx(cross_entropy, abs=2e-3)
    assert float(row["l2"]) == pytest.approx(l2, rel=1e-3)
    assert float(row["accuracy"]) == pytest.approx(np.mean(logits.argmax(axis=1) == labels.numpy()), abs=1e-3)
    assert f"cross-entropy {float(row['cross_entropy']):.4f}" in capsys.readouterr().out


def test_no_step_waits_for_the_numbers_of_the_one_before(tmp_path, monkeypatch):
    """On JAX Keras fetches a step's metrics beside the steps, unless a callback hears of each step's end."""
    monkeypatch.setattr(importlib.import_module("keras.src.backend"), "IS_THREAD_SAFE", True)  # as on JAX
    monkeypatch.setattr(callbacks.checkpoint, "save", lambda *_: None)  # at the epoch's end
    fetched_in, schedule = set(), TINY.schedule

    class OnDevice:
        def __float__(self):
            fetched_in.add(threading.current_thread())
            return 0.1

    log = callbacks.ProgressLog(schedule, tmp_path, 0, learning_rate=lambda: 0.03, report=print)
    checkpoints = callbacks.Checkpoints(schedule, tmp_path / "checkpoint.npz", 0, 5.0, stopping.Stop())
    heard = keras.callbacks.CallbackList([log, checkpoints], model=tiny_network(), steps=3, epochs=2)
    heard.on_train_begin()
    heard.on_epoch_begin(0)
    for step in range(3):
        heard.on_train_batch_begin(step)
        heard.on_train_batch_end(step, {"loss": OnDevice()})
    metrics = dict.fromkeys(("loss", "cross_entropy", "accuracy"), 0.1)
    heard.on_epoch_end(0, metrics)  # waits for what is beside
    heard.on_train_end()
    assert fetched_in
    assert threading.main_thread() not in fetched_in


def test_speed_is_timed_from_the_end_of_the_first_step(tmp_path, monkeypatch):
    """Steps of 20 s, the first of 60: no line before there is something to time, also after resuming at step 4."""
    now, lines = [0.0], []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    config = TINY.replaced(epochs=2, steps_per_epoch=10).resolved()
    log = callbacks.ProgressLog(config.schedule, tmp_path, 4, learning_rate=lambda: 0.03, report=lines.append)
    metrics = {"loss": 8.04, "cross_entropy": 0.1, "accuracy": 0.9}
    log.set_model(SimpleNamespace(get_metrics_result=lambda: metrics))
    log.set_params({"steps": 6})
    log.on_train_begin()
    log.on_epoch_begin(0)
    for batch in range(6):
        log.on_train_batch_begin(batch)
        now[0] += 60 if batch == 0 else 20
    log.on_epoch_end(0, metrics)
    # A step of 6 images in 20 s; 14 steps are left.
    assert lines[0].startswith("epoch 1/2  step 6/20  cross-entropy 0.1000  L2 7.9400")
    assert lines[0].endswith("0.3 images/s  left 0:04:40")
    assert logged_steps(tmp_path) == [10]


@pytest.mark.parametrize(
    ("change", "compiled", "tolerance"),
    [
        ({}, False, 1e-6),
        ({}, True, 1e-4),
        ({"precision": "mixed_bfloat16"}, False, 0.02),
        # Statistics of few values, seventeen times, would blow up what two ways of rounding differ by.
        ({"backbone": "resnet18", "stem": "small", "freeze_batch_norm": "yes"}, False, 1e-6),
    ],
)
def test_a_step_of_every_kind_is_the_step(change, compiled, tolerance):
    """Momentum's first step is -lr * gradient of (cross-entropy + L2), written out here, in whichever arithmetic."""
    config = TINY.replaced(learning_rate=0.1, l2=0.01, **change).resolved()
    keras.utils.set_random_seed(0)
    nets = networks_of(config)
    plain = networks_of(config.replaced(precision="float32"))
    plain.classifier.set_weights(nets.classifier.get_weights())
    x = np.random.default_rng(0).uniform(0, 1, (6, 32, 32, 3)).astype(np.float32)
    y = np.array([0, 1, 2] * 2)
    with tf.GradientTape() as tape:
        logits = plain.classifier(x, training=True)
        picked = tf.gather(tf.nn.log_softmax(logits), y, batch_dims=1)
        loss = -tf.reduce_mean(picked) + 0.005 * sum(
            tf.reduce_sum(w.value**2) for w in plain.classifier.trainable_weights
        )
    slopes = tape.gradient(loss, [w.value for w in plain.classifier.trainable_weights])
    before = [np.array(w) for w in nets.classifier.trainable_weights]
    fitting.compile_classifier(nets.classifier, config.schedule, config.schedule.phases[0])
    nets.classifier.jit_compile = compiled
    assert nets.classifier.train_on_batch(x, y)[0] == pytest.approx(float(loss), rel=max(tolerance, 1e-4))
    for first, variable, slope in zip(before, nets.classifier.trainable_weights, slopes, strict=True):
        moved, expected = np.asarray(variable) - first, -0.1 * np.asarray(slope)
        scale = np.abs(expected).max()
        assert np.abs(moved - expected).mean() <= max(20 * tolerance * scale, 1e-6), variable.path


def test_divergence_is_told_and_not_saved(category, tmp_path):
    config = TINY.replaced(data=str(category), learning_rate=1e20, l2=1.0)
    with pytest.raises(InputError, match=r"training has diverged.*lower --learning_rate"):
        run(config, category, tmp_path / "run", checkpoint_minutes=0)
    assert not runs.is_complete(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected", "tolerance"), [("bottle", 99.8, 0.2), ("toothbrush", 88.6, 0.7)])
def test_imagenet_weights_reach_the_reference_values(reference, tmp_path, name, expected, tolerance):
    root = reference / "data/mvtec_ad" / name
    path = reference / "weights/resnet18_imagenet1k_v1_torch_layout.npz"
    config = Config.of(data=str(root), epochs=0, weights=str(path))
    run(config, root, tmp_path / "run")
    cutpaste_tf.evaluate(tmp_path / "run", root)
    result = json.loads((tmp_path / "run/eval/metrics.json").read_text())
    assert result["image_auroc"] == pytest.approx(expected, abs=tolerance)
