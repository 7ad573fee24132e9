"""How steps are carried out: several at once, in float16, on views of 8 bits; the run stays the run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY, command, logged, logged_steps, networks_of, stream_of, weights_after

from cutpaste_tf import devices
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.training import checkpoint, fitting
from cutpaste_tf.training.execution import Execution

EIGHT = TINY.replaced(steps_per_epoch=8)
FLAGS = ["--backbone=toy", "--image_size=32", "--batch_size=6", "--epochs=2", "--steps_per_epoch=8"]
FLAGS += ["--scar_max_length=20", "--stem=imagenet", "--head_dims=16,8", "--checkpoint_minutes=0"]


def assert_same(weights, others):
    for first, second in zip(weights, others, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.slow
def test_several_steps_at_once_are_the_same_run(category, tmp_path, monkeypatch):
    """Also stopped within what would be one execution, where what is left of the epoch is odd, and between two."""
    config, four = EIGHT.replaced(data=str(category)), {"execution": Execution(steps_per_execution=4)}
    whole = weights_after(config, category, tmp_path / "whole", monkeypatch)
    stopped = weights_after(config, category, tmp_path / "four", monkeypatch, stops=((3, {}), 8), **four)
    assert_same(whole, stopped)
    assert logged_steps(tmp_path / "four") == logged_steps(tmp_path / "whole") == [8, 16]
    row, same = logged(tmp_path / "four")[1], logged(tmp_path / "whole")[1]
    for name in ("cross_entropy", "l2", "accuracy", "learning_rate"):  # of all steps, not of the executions' last
        assert float(row[name]) == pytest.approx(float(same[name]), abs=1e-5)


@pytest.mark.slow
def test_killed_between_executions_on_jax(category, tmp_path):
    pytest.importorskip("jax")
    main = Path(__file__).with_name("toy_main.py")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}

    def words(folder):
        return ["train", f"--data={category}", f"--output_dir={tmp_path / folder}", *FLAGS]

    def run(*words, **variables):
        return subprocess.run(
            [sys.executable, main, *words], env={**environment, **variables}, capture_output=True, text=True
        )

    command = [*words("killed"), "--steps_per_execution=4"]
    assert run(*command, DIE_AFTER="3").returncode == -signal.SIGKILL
    again = run(*command, "then", *words("whole"), "--steps_per_execution=1")
    assert again.returncode == 0, again.stderr
    assert "Resuming after step 12 of 16." in again.stdout
    killed, whole = (np.load(tmp_path / name / "train_embeddings.npz")["features"] for name in ("killed", "whole"))
    np.testing.assert_allclose(killed, whole, atol=1e-4)


def test_a_checkpoint_holds_the_loss_scale(tmp_path):
    config = TINY.replaced(precision="mixed_float16").resolved()

    def compiled():
        classifier = networks_of(config).classifier
        fitting.compile_classifier(classifier, config.schedule, config.schedule.phases[0])
        return classifier

    first, second = compiled(), compiled()
    first.optimizer.dynamic_scale.assign(2.0**9)
    first.optimizer.step_counter.assign(7)
    first.optimizer.iterations.assign(5)
    checkpoint.save(first, tmp_path / "checkpoint.npz", 6)
    checkpoint.restore(second, tmp_path / "checkpoint.npz", with_optimizer=True)
    assert float(second.optimizer.dynamic_scale) == 2.0**9
    assert (int(second.optimizer.step_counter), int(second.optimizer.iterations)) == (7, 5)
    for variable, same in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(variable, same)


@pytest.mark.slow
def test_float16_resumes_in_two_phases_with_its_loss_scale(category, tmp_path, monkeypatch):
    """On views of 8 bits, so that the classifier is not the network that was built in that arithmetic."""
    config = TINY.replaced(
        data=str(category),
        head_epochs=1,
        epochs=1,
        precision="mixed_float16",
        uint8_views=True,
        head_learning_rate=0.01,
    )
    whole = weights_after(config, category, tmp_path / "whole", monkeypatch)
    stopped = weights_after(config, category, tmp_path / "stopped", monkeypatch, stops=(2,))
    assert_same(whole, stopped)
    rates = [[row["learning_rate"] for row in logged(tmp_path / name)] for name in ("stopped", "whole")]
    assert rates[0] == rates[1]


def test_a_step_that_overflows_float16_is_left_out_and_not_counted():
    config = TINY.replaced(precision="mixed_float16", learning_rate=0.1).resolved()
    keras.utils.set_random_seed(0)
    classifier = networks_of(config).classifier
    fitting.compile_classifier(classifier, config.schedule, config.schedule.phases[0])
    optimizer = classifier.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    x = np.random.default_rng(0).uniform(0, 1, (6, 32, 32, 3)).astype(np.float32)
    before = [np.array(w) for w in classifier.trainable_weights]
    optimizer.dynamic_scale.assign(2.0**30)
    for left_out in (True, False):
        classifier.train_on_batch(x, np.array([0, 1, 2] * 2))
        same = all(np.array_equal(w, was) for w, was in zip(classifier.trainable_weights, before, strict=True))
        assert same == left_out
        assert int(optimizer.iterations) == (0 if left_out else 1)
        assert float(optimizer.dynamic_scale) == (2.0**29 if left_out else 2.0**8)
        optimizer.dynamic_scale.assign(2.0**8)


def test_a_step_on_views_of_8_bits_is_one_on_the_rounded_views(category):
    images, config = sources.read_train(category, 32).images, TINY.replaced(uint8_views=True).resolved()
    nets, rounded = fitting.initial_networks(config), fitting.initial_networks(TINY.resolved())
    assert nets.feature.input.dtype == rounded.feature.input.dtype == "float32"  # what is saved is as ever
    for networks in (nets, rounded):
        fitting.compile_classifier(networks.classifier, config.schedule, config.schedule.phases[0])
        networks.classifier.run_eagerly = True  # two steps take less time than their trace
    for views, labels in stream_of(images, config).take(2).as_numpy_iterator():
        loss = nets.classifier.train_on_batch(views, labels)[0]
        assert loss == rounded.classifier.train_on_batch(views * np.float32(1 / 255), labels)[0]
    for first, second in zip(nets.classifier.weights, rounded.classifier.weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_cannot_be_carried_out_is_refused(category, tmp_path, capsys, monkeypatch):
    flags = [f"--data={category}", f"--output_dir={tmp_path}/run", "--backbone=toy", "--image_size=32"]
    with pytest.raises(SystemExit):
        command("train_main.py", *flags, "--steps_per_epoch=6", "--steps_per_execution=4")
    assert "error: --steps_per_execution=4 must divide --steps_per_epoch=6." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="--jit_compile=perhaps must be one of: auto, yes, no"):
        Execution(jit_compile="perhaps").check(TINY.schedule)
    monkeypatch.setattr(devices, "names", lambda: ["gpu:0", "gpu:1"])
    for execution, name in ((Execution(2), "steps_per_execution=2"), (Execution(1, "yes"), "jit_compile=yes")):
        with pytest.raises(InputError, match=f"--{name} does not work on 2 devices with TensorFlow; give --devices=1"):
            execution.check_devices()


@pytest.mark.parametrize(("given", "expected"), [("auto", False), ("yes", True), ("no", False)])
def test_xla_compiles_where_it_is_asked_to(given, expected):
    classifier = networks_of(TINY).classifier
    schedule = TINY.resolved().schedule
    fitting.compile_classifier(classifier, schedule, schedule.phases[0], execution=Execution(2, jit_compile=given))
    assert classifier.jit_compile == expected  # no GPU here: by itself Keras would not
    assert classifier.steps_per_execution == 2
