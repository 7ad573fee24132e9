"""Runs that were stopped or killed end as if they had not been; and training on JAX."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, TINY, StoppedError, logged_steps, weights_after

import cutpaste_tf
from cutpaste_tf import files, runs
from cutpaste_tf.detection import image_features, loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_weights_of_an_uninterrupted_one(category, tmp_path, monkeypatch):
    config = TINY.replaced(data=str(category))
    whole = weights_after(config, category, tmp_path / "whole", monkeypatch)
    # Within the first epoch, at its end, and within the second.
    stopped = weights_after(config, category, tmp_path / "stopped", monkeypatch, stops=(2, 3, 5))
    for first, second in zip(whole, stopped, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    assert logged_steps(tmp_path / "stopped") == logged_steps(tmp_path / "whole") == [3, 6]


def test_a_run_killed_while_writing_leaves_nothing_half_written(tmp_path):
    folder = tmp_path / "detector"

    def write_and_die():
        with files.whole_folder(folder) as partial:
            (partial / "model.keras").touch()
            raise StoppedError

    with pytest.raises(StoppedError):
        write_and_die()
    with files.whole_folder(folder) as partial:
        (partial / "second").touch()
    with files.whole_folder(folder) as partial:
        (partial / "third").touch()
    assert [path.name for path in folder.iterdir()] == ["third"]
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".*.partial"))


def test_a_run_is_complete_only_with_its_detector(tmp_path):
    folder = tmp_path / "detector"
    (tmp_path / "detector.partial").mkdir()
    assert not runs.is_complete(tmp_path)
    assert not folder.exists()
    with pytest.raises(InputError, match="does not exist; give the folder of a run"):
        loading.load(folder)


def test_two_processes_do_not_share_a_run(tmp_path):
    first = files.locked(tmp_path)
    first.__enter__()
    with pytest.raises(InputError, match="Another process"), files.locked(tmp_path):
        pass
    first.__exit__(None, None, None)
    with files.locked(tmp_path):
        pass


def command(category, folder, config):
    """The command line of a configuration, with a checkpoint about every half second."""
    settings = [f"--{name}={value}" for name, value in config.flat().items() if name != "data"]
    settings = [text.replace("(", "").replace(")", "").replace(" ", "") for text in settings]
    # With conftest, which adds the small network.
    code = "import sys; sys.path.insert(0, 'tests'); import conftest; conftest.command('train_main.py', *sys.argv[1:])"
    return [sys.executable, "-c", code, f"--data={category}", f"--output_dir={folder}",
            "--checkpoint_minutes=0.008", *settings]  # fmt: skip


def test_resumes_after_sigkill(category, tmp_path):
    """Killed at any moment, between checkpoints as a rule, it ends with the weights of an uninterrupted run."""
    config = TINY.replaced(data=str(category), epochs=90)
    folder = tmp_path / "killed"
    arguments = command(category, folder, config)
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with np.load(folder / "checkpoint.npz") as arrays:
        step = int(arrays["step"])
    assert 1 <= step < 270
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"Resuming after step {step} of 270" in result.stdout
    assert logged_steps(folder) == list(range(3, 271, 3))

    cutpaste_tf.train(config, tmp_path / "whole")
    paths = (folder, tmp_path / "whole")
    killed, undisturbed = (loading.load(path / "detector").feature.get_weights() for path in paths)
    for first, second in zip(killed, undisturbed, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("training/test_fitting.py::test_the_log_says_cross_entropy_and_l2_apart", "run"),
        ("training/test_transfer.py::test_resumes_inside_either_phase_and_between_them", "stopped"),
    ],
)
def test_trains_on_jax(category, tmp_path, name, folder):
    """The tests of a run's log, and of resuming in either phase, on JAX; then what it trained is read here."""
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    chosen = [f"tests/{name}"]
    pytest_options = ["-n", "0", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *pytest_options, *chosen],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    (created,) = {path.resolve() for path in (tmp_path / "inner").glob(f"*/{folder}/detector")}
    loaded = loading.load(created)
    examples = sources.read_test(category, 32)
    with np.load(created.parent / "train_embeddings.npz") as arrays:
        train = sources.read_train(category, 32)
        np.testing.assert_allclose(image_features.embed(loaded.feature, train.images), arrays["features"], atol=1e-4)
    assert np.ptp(loaded.score(examples.images).scores) > 0
