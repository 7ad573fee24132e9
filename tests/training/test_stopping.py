"""Ctrl-C and SIGTERM: training ends with a checkpoint, commands in one line; what SIGKILL leaves is removed."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from conftest import ROOT, TINY, command, logged

import cutpaste_tf
from cutpaste_tf import files
from cutpaste_tf.detection import loading
from cutpaste_tf.errors import InputError, SignalError
from cutpaste_tf.training import callbacks, checkpoint, sheet, stopping, train
from cutpaste_tf.training.execution import Execution

FIGURES = ("epoch", "step", "cross_entropy", "l2", "accuracy", "learning_rate")


@pytest.fixture(autouse=True)
def handlers():
    """What Python has by itself: in a shell's background Ctrl-C is ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield lambda: {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)


def figures(run):
    return [[row[name] for name in FIGURES] for row in logged(run)]


def signal_at(step, number, monkeypatch):
    """Sends a signal as a step begins, once."""
    begin, sent = callbacks.ProgressLog.on_train_batch_begin, []

    def begin_and_signal(self, batch, logs=None):
        begin(self, batch, logs)
        if self._step == step and not sent:
            sent.append(step)
            signal.raise_signal(number)

    monkeypatch.setattr(callbacks.ProgressLog, "on_train_batch_begin", begin_and_signal)


@pytest.mark.parametrize(
    ("number", "step", "together"),
    # Within an epoch, where one begins, and where several steps are one execution.
    [
        pytest.param(signal.SIGINT, 5, 1, marks=pytest.mark.slow),
        (signal.SIGTERM, 8, 1),
        pytest.param(signal.SIGTERM, 12, 4, marks=pytest.mark.slow),
    ],
)
def test_training_stops_with_a_checkpoint_and_ends_as_if_it_had_not(
    category, tmp_path, monkeypatch, handlers, number, step, together
):
    config = TINY.replaced(data=str(category), steps_per_epoch=8)
    execution, before = Execution(together), handlers()
    cutpaste_tf.train(config, tmp_path / "whole", execution=execution)
    signal_at(step, number, monkeypatch)
    with pytest.raises(
        SignalError, match=rf"^Stopped after step {step} of 16; run the same command to continue"
    ) as stopped:
        cutpaste_tf.train(config, tmp_path / "stopped", execution=execution)
    assert stopped.value.number == number
    assert handlers() == before
    assert checkpoint.saved_step(tmp_path / "stopped/checkpoint.npz") == step
    cutpaste_tf.train(config, tmp_path / "stopped", execution=execution)
    assert figures(tmp_path / "stopped") == figures(tmp_path / "whole")
    whole, resumed = (loading.load(tmp_path / name).feature.get_weights() for name in ("whole", "stopped"))
    for weights, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(weights, other)


def test_a_checkpoint_of_version_0_2_is_resumed(category, tmp_path, monkeypatch):
    """It has no metrics: its epoch's row is of the steps that were left."""
    config, run = TINY.replaced(data=str(category)), tmp_path / "run"
    signal_at(2, signal.SIGINT, monkeypatch)
    with pytest.raises(SignalError):
        cutpaste_tf.train(config, run)
    with np.load(run / "checkpoint.npz") as arrays:
        older = {name: arrays[name] for name in arrays.files if not name.startswith("metrics")}
        assert len(older) < len(arrays.files)
    np.savez(run / "checkpoint.npz", **older)
    cutpaste_tf.train(config, run)
    assert [row["step"] for row in logged(run)] == ["3", "6"]
    assert float(logged(run)[0]["accuracy"]) in (pytest.approx(count / 6, abs=1e-6) for count in range(7))


def test_a_signal_before_the_first_step_leaves_no_checkpoint(category, tmp_path, monkeypatch):
    signal_at(0, signal.SIGTERM, monkeypatch)
    with pytest.raises(SignalError, match=r"^Stopped before the first of 6 steps; run the same command"):
        cutpaste_tf.train(TINY.replaced(data=str(category)), tmp_path / "run")
    assert not (tmp_path / "run/checkpoint.npz").exists()


def test_a_second_signal_does_what_it_did_before(capfd):
    def end(number, frame):
        raise LookupError

    def twice():
        with stopping.requests() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.number == signal.SIGTERM
            assert "Repeat to stop at once." in capfd.readouterr().err
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    with pytest.raises(LookupError):
        twice()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with stopping.requests() as stop:
        signal.raise_signal(signal.SIGTERM)
    assert not stop.number


def test_signals_stay_as_they_are_in_another_thread(handlers):
    seen = []

    def elsewhere():
        with stopping.requests():
            seen.append(handlers())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [handlers()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_in_one_line(tmp_path, monkeypatch, capsys, handlers, number, code):
    before = handlers()
    monkeypatch.setattr(sheet, "show_augmentations", lambda *_, **__: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        command("train_main.py", f"--data={tmp_path}", f"--output_dir={tmp_path}/run", "--show_augmentations")
    assert (ended.value.code, capsys.readouterr().err) == (code, "Stopped.\n")
    assert handlers() == before


def killed(folder):
    """A process that is killed while it writes a file and a folder."""
    code = (
        "import os, signal, sys; from pathlib import Path; from cutpaste_tf import files; place = Path(sys.argv[1])\n"
        "with files.whole_folder(place / 'eval') as folder, files._whole(place / 'checkpoint.npz') as file:\n"
        "    (folder / 'scores.csv').touch(); file.write(bytes(9)); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    return sorted(folder.glob(".*.partial"))


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    with files.whole_folder(tmp_path / "alive") as folder:  # by a process that lives
        (folder / "a").touch()
        (alive,) = tmp_path.glob(".*.partial")
        left = [path for path in killed(tmp_path) if path != alive]
        assert len(left) == 2
        (tmp_path / ".notes.partial").touch()  # somebody's own
        with files.locked(tmp_path, ".name.lock"):
            assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
                [alive.name, ".name.lock", ".notes.partial"]
            )
    assert [path.name for path in (tmp_path / "alive").iterdir()] == ["a"]
    assert not alive.exists()


def test_a_file_system_without_locks_is_written_to_and_named(tmp_path, monkeypatch):
    left = killed(tmp_path)

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    files.write_whole(tmp_path / "file", b"content")
    with files.whole_folder(tmp_path / "folder"):
        pass
    assert sorted(tmp_path.glob(".*.partial")) == left  # whether somebody is at work on them nobody knows
    expected = r"can be written, but not locked against a second process \(No locks available\)"
    with pytest.raises(InputError, match=expected), files.locked(tmp_path):
        pass
    with pytest.raises(InputError, match=expected):
        files.check_writable(tmp_path / "run", locks=True)
    files.check_writable(tmp_path / "run")


def test_the_next_command_fits_the_data(category, tmp_path):
    run = tmp_path / "my run"
    evaluation = f"python eval_main.py --run_dir='{run}'"

    def next_command(data, test_data="", prefix=""):
        examples = types.SimpleNamespace(paths=[f"{prefix}{index:03d}.png" for index in range(6)])
        return train._next_command(TINY.replaced(data=str(data), test_data=str(test_data)), run, examples)

    assert next_command(category) == evaluation
    assert next_command(category / "train/good", category) == evaluation
    assert next_command("mvtec_ad/bottle") == evaluation
    for place, prefix in ((category / "train/good", ""), (category / "train", "good/")):
        said = next_command(place, prefix=prefix)
        assert said.startswith(f"python predict_main.py --detector='{run}' --images=FOLDER ")
        assert said.endswith(f"{evaluation} --data=FOLDER")
