"""Several devices and several processes compute what one does; one that is killed ends the others in one line."""

import csv
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, command, logged
from PIL import Image

from cutpaste_tf import devices, processes
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.detection import whole
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources

MAIN = Path(__file__).with_name("toy_main.py")
SCHEDULE = ["--backbone=toy", "--image_size=32", "--batch_size=12", "--epochs=2", "--steps_per_epoch=5"]
PATCHES = ["--backbone=toy", "--image_size=64", "--patch_size=32", "--extract_size=32", "--stride=8", "--epochs=0"]
PATCHES += ["--density_mode=shared", "--scar_max_length=20", "--stem=imagenet", "--head_dims=16,8"]
SCHEDULE += ["--scar_max_length=20", "--stem=imagenet", "--head_dims=16,8", "--checkpoint_minutes=0"]


def start(*words, backend="jax", **variables):
    jax = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    own = {**os.environ, "KERAS_BACKEND": backend, **(jax if backend == "jax" else {}), **variables}
    command = [sys.executable, MAIN, *words]
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    """(exit code, what it said, what it said of errors)."""
    said, errors = process.communicate(timeout=300)
    return process.returncode, said, errors


def features(run):
    return np.load(run / "train_embeddings.npz")["features"]


def scores(run):
    with (run / "eval/scores.csv").open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def assert_equal_runs(run, other, *, epochs=2):
    """The same network, but for the order in which sums were taken."""
    np.testing.assert_allclose(features(run), features(other), atol=3e-4)  # without synchronized norms: 2.4
    for row, same in zip(logged(run)[:epochs], logged(other)[:epochs], strict=True):
        for name in ("cross_entropy", "l2", "accuracy"):
            assert float(row[name]) == pytest.approx(float(same[name]), abs=2e-5)


def compare_devices(category, place, backend, **two):
    """One device and two train the same run, and score it alike; all in one process, which has two devices."""
    one, both, patches = place / "one", place / "both", place / "patches"
    data, scored = f"--data={category}", [f"{kind}_{count}" for kind in ("exact", "fast") for count in (1, 2)]
    commands = [
        ["train", data, *SCHEDULE, f"--output_dir={one}", "--devices=1"],
        ["train", data, *SCHEDULE, f"--output_dir={both}", "--devices=2"],
        ["eval", f"--run_dir={one}", "--devices=1", "--nopage"],
        ["eval", f"--run_dir={one}/detector", "--devices=2", "--nopage"],  # keeps features of its own
        ["train", data, *PATCHES, f"--output_dir={patches}"],
    ]
    for name in scored:
        kind, count = name.split("_")
        flags = [f"--dense={kind}", f"--devices={count}", f"--output_dir={place}/{name}/eval", "--nopage"]
        commands.append(["eval", f"--run_dir={patches}", *flags])
    words = [word for command in commands for word in ("then", *command)][1:]
    code, said, errors = end(start(*words, backend=backend, **two))
    assert code == 0, errors
    assert ", cpu:1." in said
    assert_equal_runs(one, both)
    np.testing.assert_allclose(scores(one / "detector"), scores(one), rtol=1e-5, atol=2e-3)
    heat_maps = sorted((one / "eval/heatmaps").rglob("*.png"))
    assert heat_maps
    for path in heat_maps:
        same = one / "detector" / path.relative_to(one)
        assert np.abs(np.asarray(Image.open(path), int) - np.asarray(Image.open(same), int)).max() <= 2
    for kind in ("exact", "fast"):
        np.testing.assert_allclose(scores(place / f"{kind}_2"), scores(place / f"{kind}_1"), rtol=1e-5)


def test_two_devices_are_one_on_tensorflow(category, tmp_path):
    compare_devices(category, tmp_path, "tensorflow", LOGICAL_CPUS="2")


@pytest.mark.slow
def test_two_devices_are_one_on_jax(category, tmp_path):
    compare_devices(category, tmp_path, "jax", XLA_FLAGS="--xla_force_host_platform_device_count=2")


def test_two_processes_are_one_on_jax(category, tmp_path):
    """Also where one was killed on the way, and one goes on alone; and TensorFlow reads what they made."""
    one, both, cut_off = tmp_path / "one", tmp_path / "both", tmp_path / "cut_off"
    train = ["train", f"--data={category}", *SCHEDULE]
    evaluate = ["eval", f"--run_dir={both}", "--nopage", "--noheat_maps"]

    def pair(*words, doomed=None, own=()):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{one.getsockname()[1]}"
        started = []
        for index in (0, 1):
            joining = [f"--coordinator={address}", "--num_processes=2", f"--process_id={index}"]
            every = [joined for word in words for joined in ([*joining, word] if word == "then" else [word])]
            dying = {"DIE_AFTER": "7"} if index == doomed else {}
            started.append(start(*every, *joining, *(own if index == 1 else ()), **dying))
        return [end(one) for one in started]

    (code, said, errors), (killed, *_) = pair(*train, f"--output_dir={cut_off}", doomed=1)
    assert (code, killed) == (2, -9)
    assert "Computing with jax on cpu:0, cpu:2048." in said
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("error: Another process of this command has ended. The same")
    for code, _, errors in pair(*train, f"--output_dir={both}", "then", *evaluate):
        assert code == 0, errors
    shutil.copytree(both / "eval", tmp_path / "by_both/eval")
    for code, _, errors in pair(*evaluate, own=["--beside=nowhere"]):
        assert code == 2
        assert "error: --beside=nowhere holds no evaluation" in errors  # of one process: both say so, and neither waits
    shutil.rmtree(both / "embeddings")
    words = [*train, f"--output_dir={one}", "then", *train, f"--output_dir={cut_off}", "then", *evaluate]
    code, said, errors = end(start(*words))
    assert code == 0, errors
    assert "Resuming after step 7 of 10." in said
    assert_equal_runs(one, both)
    assert_equal_runs(one, cut_off, epochs=1)
    np.testing.assert_allclose(scores(tmp_path / "by_both"), scores(both), rtol=1e-5)
    names = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert names == {"category", "one", "both", "cut_off", "by_both"}
    loaded = Detector.load(both)
    np.testing.assert_allclose(
        whole.embed(loaded.feature, sources.read_train(category, 32).images), features(both), atol=1e-4
    )


def test_processes_that_see_different_images_are_told(monkeypatch):
    processes.agree("test images", ["a"])  # alone there is nobody to differ from
    monkeypatch.setattr(processes, "_joined", ["host:1"])
    seen = []
    monkeypatch.setattr(processes, "_gathered", lambda text: [*seen, text])
    processes.agree("test images", ["a", "b"])
    monkeypatch.setattr(processes, "_gathered", lambda text: ["0" * 64, text])
    with pytest.raises(InputError, match="processes of this command see different test images; give every host"):
        processes.agree("test images", ["a"])


def test_large_files_reach_the_others_in_parts(monkeypatch):
    monkeypatch.setattr(processes, "_PART", 1000)
    sent = []

    def from_first(value):
        sent.append(value)
        return value

    monkeypatch.setattr(processes, "_from_first", from_first)
    text = np.random.default_rng(0).bytes(2500)
    assert processes._send(text, b"", text[:2000]) == [text, b"", text[:2000]]
    assert [len(one) for one in sent if one.dtype == np.uint8] == [1000, 1000, 500, 1000, 1000]
    assert {one.dtype for one in sent} == {np.dtype(np.uint8), np.dtype(np.int32)}  # JAX has no others by default


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("start_step", [0, 3])
def test_the_parts_of_the_stream_are_the_stream(count, start_step):
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    settings = TINY.augmentation
    options = {"batch_size": 24, "seed": 5, "start_step": start_step}
    whole = pipeline.stream(images, settings, **options).take(3)
    parts = [pipeline.stream(images, settings, **options, part=(index, count)).take(3) for index in range(count)]
    for (views, labels), *shares in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([share[0] for share in shares]), views)
        np.testing.assert_array_equal(np.concatenate([share[1] for share in shares]), labels)


def test_devices_that_cannot_share_a_batch_are_refused(monkeypatch):
    monkeypatch.setattr(devices, "_found", lambda: ["gpu:0", "gpu:1", "gpu:2", "gpu:3"])
    with (
        pytest.raises(InputError, match="--devices=5 must be auto, or a number up to 4: found gpu:0, gpu:1"),
        devices.used("5"),
    ):
        pass
    with (
        pytest.raises(InputError, match="--batch_size=18 must be a multiple of the number of devices, 4"),
        devices.used("4", batch_size=18),
    ):
        pass
    with devices.used(batch_size=25):  # four cannot share it
        assert devices.names() == ["gpu:0"]
    monkeypatch.setattr(processes, "part", lambda: (0, 4))
    with (
        pytest.raises(InputError, match="views of 6 images, which 4 processes cannot share"),
        devices.used("1", batch_size=18, images_per_step=6),
    ):
        pass


def test_processes_need_jax(category, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("train_main.py", f"--data={category}", f"--output_dir={tmp_path}/run", "--coordinator=localhost:1")
    assert "error: --coordinator: several processes need KERAS_BACKEND=jax" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("train_main.py", f"--data={category}", f"--output_dir={tmp_path}/run", "--num_processes=2")
    assert "error: --num_processes and --process_id need --coordinator." in capsys.readouterr().err
