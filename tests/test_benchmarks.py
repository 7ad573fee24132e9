"""The benchmarks: that they measure what they say, on small things."""

import csv
import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT, draw_category
from PIL import Image

from benchmarks import drawn_set, memory, session  # no module that defines flags: these stay in the process
from cutpaste_tf.files import read_csv
from cutpaste_tf.images import sources

SAYS = "import json, sys; result = sys.argv[-1].partition('=')[2]; "


def test_drawn_images_are_all_different_and_kept(tmp_path):
    drawn_set.draw(tmp_path, {"train/good": 9, "test/crack": 4}, 3)
    train, test = sources.read_train(tmp_path, 256), sources.read_test(tmp_path, 256)
    assert train.images.shape == (9, 256, 256, 3)
    assert test.labels.tolist() == [1] * 4
    assert len({*train.hashes, *test.hashes}) == 13
    existing = tmp_path / "train/good/000004.jpg"
    existing.write_bytes(b"mine")
    drawn_set.draw(tmp_path, {"train/good": 10}, 3)
    assert existing.read_bytes() == b"mine"
    assert (tmp_path / "train/good/000009.jpg").is_file()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="memory is read from /proc")
def test_the_memory_of_a_process_is_what_it_takes():
    code = "import time; held = bytearray(b'x') * 150_000_000; print('held', flush=True); time.sleep(0.5); print(1)"
    measured = memory.measured([sys.executable, "-c", code])
    assert measured["exit_code"] == 0
    assert 150 < measured["peak_anonymous_mb"] < 250
    assert measured["peak_anonymous_mb"] <= measured["peak_resident_mb"] < 300
    assert [line[-1] for line in measured["lines"]] == ["held", "1"]


def test_a_session_goes_on_after_what_fails_and_again(tmp_path):
    def python(code):
        return [sys.executable, "-c", code]

    first = session.Session(tmp_path, "gpu", 600)
    counted = f"open({str(tmp_path / 'count')!r}, 'a').write('x'); "
    good = python(SAYS + counted + "json.dump({'steps_per_second': 2.5}, open(result, 'w'))")
    assert first.measure("good", good, limit=60)["steps_per_second"] == 2.5
    full = python("import sys; print('W RESOURCE_EXHAUSTED: 9 GiB'); print('Traceback'); sys.exit(1)")
    assert first.measure("full", full, limit=60)["failed"] == "out of memory: W RESOURCE_EXHAUSTED: 9 GiB"
    assert first.measure("bad", python("raise ValueError('odd')"), limit=60)["failed"] == "exit code 1: ValueError: odd"
    began = time.monotonic()
    slow = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    assert first.measure("slow", python(slow), limit=1)["failed"] == "took longer than 1 s"
    assert time.monotonic() - began < 30
    assert first.measure("late", good, limit=60, keep=600)["skipped"] == "no time left"
    assert not list(tmp_path.glob(".*"))

    table = (tmp_path / "gpu.md").read_text()
    assert "| good | 2.5 |" in table
    assert "- slow: took longer than 1 s" in table
    again = session.Session(tmp_path, "gpu", 600)
    assert again.measure("good", good, limit=60) == first.records["good"]
    assert (tmp_path / "count").read_text() == "x"
    assert again.measure("late", good, limit=60)["steps_per_second"] == 2.5
    assert set(json.loads((tmp_path / "gpu.json").read_text())["records"]) == {"good", "full", "bad", "slow", "late"}


def test_a_session_without_time_measures_nothing(tmp_path):
    ended = session.Session(tmp_path, "gpu", 0)
    assert ended.measure("one", [sys.executable, "-c", "raise SystemExit(3)"], limit=60) == {"skipped": "no time left"}
    metrics = tmp_path / "metrics.json"
    ended.commands("run", [[sys.executable, "-c", "pass"]], metrics, {})
    assert ended.records["run"]["failed"].startswith("took longer than")


def test_a_run_s_figures_are_recorded(tmp_path):
    recorded = session.Session(tmp_path, "gpu", 600)
    metrics = tmp_path / "metrics.json"
    code = f"import json; json.dump({{'image_auroc': 99.5, 'other': 1}}, open({str(metrics)!r}, 'w'))"
    recorded.commands("run", [[sys.executable, "-c", "pass"], [sys.executable, "-c", code]], metrics, {})
    assert recorded.records["run"]["image_auroc"] == 99.5
    assert "other" not in recorded.records["run"]


@pytest.mark.parametrize(
    ("seconds", "rate", "steps", "epochs"), [(600, 10.0, 256, 21), (10, 1.0, 256, 0), (1e6, 10.0, 256, 256)]
)
def test_as_many_whole_epochs_as_fit(seconds, rate, steps, epochs):
    assert session.affordable(seconds, rate, steps, most=256) == epochs


def _benchmark(name, *flags, **environment):
    command = [sys.executable, "-m", f"benchmarks.{name}", *flags]
    completed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=580, env={**os.environ, **environment}
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="memory is read from /proc")
def test_large_sets_made_small(tmp_path):
    said = _benchmark("large_sets", f"--folder={tmp_path}", "--tiny", "--train=--epochs=0")
    assert "peak memory" in said
    results = json.loads((tmp_path / "large_sets.json").read_text())
    for name in ("train", "evaluate"):
        assert 200 < results[name]["peak_anonymous_mb"] < results[name]["peak_resident_mb"] < 2000
    metrics = json.loads((tmp_path / "run/eval/metrics.json").read_text())
    assert (metrics["train_images"], metrics["test_normal"], metrics["test_anomalous"]) == (24, 6, 6)


@pytest.mark.slow
def test_large_sets_made_small_with_training(tmp_path):
    _benchmark("large_sets", f"--folder={tmp_path}", "--tiny")
    assert json.loads((tmp_path / "run/eval/metrics.json").read_text())["steps"] == 2


@pytest.mark.slow
def test_the_gpu_session_made_small(tmp_path):
    pytest.importorskip("jax")
    said = _benchmark("gpu", f"--output_dir={tmp_path}", "--tiny", "--minutes=9", KERAS_BACKEND="jax")
    records = json.loads((tmp_path / "gpu.json").read_text())["records"]
    training, scoring = records["ResNet-18, 32 px, float32"], records["dense fast"]
    assert training["steps_per_second_without"] > 0
    assert 0 <= training["waiting"] < 1
    assert scoring["patches"] == 9
    assert scoring["seconds_per_image"] > 0
    assert records["run"]["steps"] == 2
    assert 0 <= records["run"]["image_auroc"] <= 100
    assert "| dense exact |" in said


@pytest.mark.slow
def test_learning_curves_made_small(tmp_path, category):
    flags = ["--seeds=1", "--image_size=32", "--stem=imagenet", "--scar_max_length=20", "--batch_size=12"]
    flags += [
        "--epochs=1",
        "--steps_per_epoch=9",
        "--head_dims=16,8",
        f"--data={category}",
        f"--output_dir={tmp_path}/c",
    ]
    for _ in range(2):  # the second time there is nothing to do
        said = _benchmark("learning_curves", *flags)
    assert "auroc" not in said
    with (tmp_path / "c/curves.csv").open() as file:
        rows = [*csv.DictReader(file)]
    points = [("untrained, statistics of the data", "0"), ("untrained", "0"), ("", "8"), ("", "9")]
    assert [(row["views"], row["baseline"], row["step"]) for row in rows] == [
        (views, *point) for views in ("shared", "independent") for point in points
    ]
    assert all(0 <= float(row["image_auroc"]) <= 100 for row in rows)
    for baseline in (0, 1):  # the same networks before training
        assert rows[baseline]["image_auroc"] == rows[4 + baseline]["image_auroc"]
    assert rows[0]["held_out"] != rows[1]["held_out"]
    assert (tmp_path / "c/curves.png").stat().st_size > 10_000


@pytest.mark.slow  # two trainings and many densities, a minute
def test_experiments_on_choosing_and_schedules_run(tmp_path):
    data = draw_category(tmp_path / "data/category")
    for index, path in enumerate(sorted(data.glob("train/good/*.png"))):
        for turn in (1, 2):
            with Image.open(path) as image:
                image.rotate(90 * turn).save(path.with_name(f"turned{index}_{turn}.png"))
    shared = ["--image_size=64", "--weights=", "--stem=imagenet", "--scar_max_length=25"]
    words = [
        "benchmarks.choosing",
        f"--output_dir={tmp_path / 'choosing'}",
        f"--sets={data}",
        f"--moved={data}",
        *shared,
    ]
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True)
    rows, regrets = (read_csv(tmp_path / "choosing" / name) for name in ("candidates.csv", "regret.csv"))
    assert len(rows) == 2 * 29
    assert [row["set"] for row in regrets] == [str(data), f"{data}, moved"]
    for row in regrets:
        of_set = [float(each["image_auroc"]) for each in rows if each["set"] == row["set"]]
        assert float(row["best"]) == max(of_set)
        assert float(row["1"]) == pytest.approx(max(of_set) - of_set[0], abs=0.02)
    assert float(regrets[0]["left_out"]) in [float(regrets[0][str(count)]) for count in range(1, 6)]

    words = [
        "benchmarks.schedules",
        f"--output_dir={tmp_path}",
        f"--data={data}",
        "--seeds=0",
        "--batch_size=6",
        *shared,
    ]
    words += ["--epochs=1", "--steps_per_epoch=4"]
    for _ in range(2):  # the second time, nothing is left to do
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True)
    rows = {row["variant"]: row for row in read_csv(tmp_path / "schedules.csv")}
    assert len(rows) == 1 + 11 + 5
    base = rows.pop("base")
    assert float(base["accuracy"]) > 0
    same = [name for name, row in rows.items() if row["held_out"] == base["held_out"]]
    assert not same, "a variant that changes nothing"
