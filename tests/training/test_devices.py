"""Several devices compute what one does."""

import csv
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import logged
from PIL import Image

from cutpaste_tf import devices
from cutpaste_tf.errors import InputError

MAIN = Path(__file__).with_name("toy_main.py")
SCHEDULE = ["--backbone=toy", "--image_size=32", "--batch_size=12", "--epochs=2", "--steps_per_epoch=5"]
PATCHES = ["--backbone=toy", "--image_size=64", "--patch_size=32", "--extract_size=32", "--stride=8", "--epochs=0"]
PATCHES += ["--density_mode=shared", "--scar_max_length=20", "--stem=imagenet", "--head_dims=16,8"]
SCHEDULE += ["--scar_max_length=20", "--stem=imagenet", "--head_dims=16,8", "--checkpoint_minutes=0"]


def start(*words, backend="jax", **variables):
    jax = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    environment = {**os.environ, "KERAS_BACKEND": backend, **(jax if backend == "jax" else {}), **variables}
    command = [sys.executable, MAIN, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    """(exit code, what it said, what it said of errors)."""
    said, errors = process.communicate(timeout=300)
    return process.returncode, said, errors


def features(run):
    return np.load(run / "train_embeddings.npz")["features"]


def scores(run):
    with (run / "eval/scores.csv").open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def assert_equal_runs(run, other):
    """The same network, but for the order in which sums were taken."""
    np.testing.assert_allclose(features(run), features(other), atol=3e-4)  # without synchronized norms: 2.4
    for row, same in zip(logged(run), logged(other), strict=True):
        for name in ("cross_entropy", "l2", "accuracy"):
            assert float(row[name]) == pytest.approx(float(same[name]), abs=2e-5)


def alone(category, place, backend, **two):
    """The run of one device, trained and evaluated; two devices are held to it."""
    words = []
    for count in ("1", "2"):
        output = f"--output_dir={place}/{count}"
        words += ["train", f"--data={category}", *SCHEDULE, output, f"--devices={count}", "then"]
    words += ["copy", f"{place}/1/detector", f"{place}/copied", "then"]
    words += ["eval", f"--run_dir={place}/1", "--devices=1", "--nopage", "then"]
    words += ["eval", f"--run_dir={place}/copied", "--devices=2", "--nopage", "then"]
    words += ["train", f"--data={category}", *PATCHES, f"--output_dir={place}/patches", "then"]
    for count, dense in itertools.product("12", ("exact", "fast")):
        output = f"--output_dir={place}/{dense}{count}/eval"
        words += ["eval", f"--run_dir={place}/patches", f"--dense={dense}", f"--devices={count}", output, "--nopage"]
        words += ["then"]
    code, said, errors = end(start(*words, backend=backend, **two))
    assert code == 0, errors
    assert ", cpu:1." in said
    assert_equal_runs(place / "1", place / "2")
    np.testing.assert_allclose(scores(place / "copied"), scores(place / "1"), rtol=1e-5, atol=2e-3)
    for path in (place / "1/eval/heatmaps").rglob("*.png"):
        heat, same = (
            np.asarray(Image.open(picture), int) for picture in (path, place / "copied" / path.relative_to(place / "1"))
        )
        assert np.abs(heat - same).max() <= 2
    for dense in ("exact", "fast"):
        np.testing.assert_allclose(scores(place / f"{dense}2"), scores(place / f"{dense}1"), rtol=1e-5)
    return place / "1"


@pytest.mark.slow
def test_two_devices_are_one_on_tensorflow(category, tmp_path):
    alone(category, tmp_path, "tensorflow", LOGICAL_CPUS="2")


@pytest.mark.slow
def test_two_devices_are_one_on_jax(category, tmp_path):
    alone(category, tmp_path, "jax", XLA_FLAGS="--xla_force_host_platform_device_count=2")


def test_devices_that_cannot_share_a_batch_are_refused(monkeypatch):
    monkeypatch.setattr(devices, "_available", lambda: ["gpu:0", "gpu:1", "gpu:2", "gpu:3"])
    with (
        pytest.raises(InputError, match="--devices=5 must be auto or a number up to 4: found gpu:0, gpu:1"),
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
