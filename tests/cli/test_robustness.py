"""Damaged files, two processes at once, other systems, and what the user's environment says."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY, command, write_image

import cutpaste_tf
from cutpaste_tf import arrays, backend, environment, files, runs
from cutpaste_tf.detection.image_detector import ImageDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import sources
from cutpaste_tf.settings.config import Config


def test_a_refused_command_changes_nothing(category, tmp_path):
    config = TINY.replaced(data=str(category), epochs=0)
    data = runs.TrainingData.of(sources.read_train(category, 32))
    folder = tmp_path / "run"
    with files.locked(folder):
        runs.open_run(folder, config, data)
        before = (folder / "config.json").read_bytes()
        with pytest.raises(InputError, match="Another process is using"):
            cutpaste_tf.train(config.replaced(density="kde"), folder, checkpoint_minutes=5)
        assert (folder / "config.json").read_bytes() == before


def test_evaluation_trusts_the_detector_s_settings(tiny_run, category):
    cutpaste_tf.evaluate(tiny_run, category)
    before = (tiny_run / "eval/scores.csv").read_text()
    saved = Config.read(tiny_run / "config.json")
    (tiny_run / "config.json").write_text(saved.replaced(l2_normalize=False, reg_covar=1.0).to_json())
    cutpaste_tf.evaluate(tiny_run, category)
    assert (tiny_run / "eval/scores.csv").read_text() == before


def test_other_data_do_not_take_the_place_of_the_runs_own(tiny_run, category, tmp_path):
    cutpaste_tf.evaluate(tiny_run, category)
    metrics = (tiny_run / "eval/metrics.json").read_text()
    for parent in ("a", "b"):
        pixels = np.random.default_rng(ord(parent)).integers(0, 256, (40, 40, 3), np.uint8)
        write_image(tmp_path / parent / "night/x.png", pixels)
        cutpaste_tf.evaluate(tiny_run, tmp_path / parent / "night")
    assert (tiny_run / "eval/metrics.json").read_text() == metrics
    assert len(list(tiny_run.glob("eval_data=night*"))) == 2
    cutpaste_tf.evaluate(tiny_run, tmp_path / "a/night", output_dir=tmp_path / "here")
    assert (tmp_path / "here/scores.csv").is_file()


def test_a_damaged_record_of_an_evaluation_is_replaced(tiny_run, category, tmp_path):
    shutil.copytree(category / "test/square", tmp_path / "night")
    for _ in range(2):
        cutpaste_tf.evaluate(tiny_run, tmp_path / "night")
        (tiny_run / "eval_data=night/metrics.json").write_bytes(b'{"a')
    assert len(list(tiny_run.glob("eval_data=night*"))) == 1


def test_an_evaluation_takes_nobody_s_place(tiny_run, category):
    before = sorted(path.name for path in tiny_run.iterdir())
    with pytest.raises(InputError, match="is not the folder of an evaluation; give another folder"):
        cutpaste_tf.evaluate(tiny_run, category, output_dir=tiny_run)
    assert sorted(path.name for path in tiny_run.iterdir()) == before


def test_figures_of_other_images_do_not_stand_beside(tiny_run, category, tmp_path):
    cutpaste_tf.evaluate(tiny_run, category)
    beside = EvaluationOptions(beside=(str(tiny_run),))
    result = cutpaste_tf.evaluate(tiny_run, category, output_dir=tmp_path / "again", options=beside)
    assert result["image_auroc"] is not None
    text = (tmp_path / "again/report.html").read_text()
    assert str(tiny_run) in text.replace("<wbr>", "")
    (category / "test/good/002.png").unlink()
    with pytest.raises(InputError, match="is an evaluation of other images of"):
        cutpaste_tf.evaluate(tiny_run, category, output_dir=tmp_path / "third", options=beside)
    with pytest.raises(InputError, match=r"holds no evaluation .*run eval_main.py --run_dir=nowhere first"):
        cutpaste_tf.evaluate(tiny_run, category, options=EvaluationOptions(beside=("nowhere",)))


def test_two_writers_of_one_folder_do_not_mix(tmp_path):
    first, second = (files.whole_folder(tmp_path / "eval") for _ in range(2))
    (first.__enter__() / "a").touch()
    (second.__enter__() / "b").touch()
    second.__exit__(None, None, None)
    assert [path.name for path in (tmp_path / "eval").iterdir()] == ["b"]
    first.__exit__(None, None, None)
    assert [path.name for path in (tmp_path / "eval").iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["eval"]


def test_a_second_evaluation_into_one_folder_is_refused(tiny_run, category, monkeypatch):
    score = ImageDetector.score_set

    def score_twice(*arguments, **options):
        monkeypatch.setattr(ImageDetector, "score_set", score)
        with pytest.raises(InputError, match="Another process is using"):
            cutpaste_tf.evaluate(tiny_run, category)
        return score(*arguments, **options)

    monkeypatch.setattr(ImageDetector, "score_set", score_twice)
    cutpaste_tf.evaluate(tiny_run, category)


@pytest.mark.parametrize("name", ["model.keras", "density.npz", "config.json", "training_data.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_damaged_file_of_a_detector_is_named(tiny_run, category, name, damage):
    path = tiny_run / "detector" / name
    content = path.read_bytes()
    half = len(content) // 2
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:half] if damage == "cut" else content[:half] + b"\xff\xfe" + content[half + 2 :])
    expected = "config.json" if (name, damage) == ("config.json", "missing") else name
    if (name, damage) == ("model.keras", "missing"):
        expected = "detector"
    with pytest.raises(InputError, match=expected):
        cutpaste_tf.evaluate(tiny_run, category)
    assert not (tiny_run / "eval").exists()


def test_what_is_kept_is_computed_again_where_it_is_damaged(tiny_run, category, capsys):
    cutpaste_tf.evaluate(tiny_run, category)
    before = (tiny_run / "eval/metrics.json").read_text()
    for path in (tiny_run / "train_embeddings.npz", *(tiny_run / "embeddings").iterdir()):
        path.write_bytes(path.read_bytes()[:500])
    cutpaste_tf.evaluate(tiny_run, category)
    assert (tiny_run / "eval/metrics.json").read_text() == before
    assert capsys.readouterr().out.count("is damaged") == 2


def test_a_damaged_checkpoint_is_named(category, tmp_path):
    config = TINY.replaced(data=str(category))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoint.npz").write_bytes(os.urandom(5000))
    with pytest.raises(
        InputError, match=r"checkpoint\.npz is damaged \(not a file of arrays\): delete it to start over"
    ):
        cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)


def test_a_detector_copied_alone_scores(tiny_run, category, tmp_path):
    cutpaste_tf.evaluate(tiny_run, category)
    shutil.copytree(tiny_run / "detector", tmp_path / "ship/detector")
    for place in (tmp_path / "ship", tmp_path / "ship/detector"):
        cutpaste_tf.evaluate(place, category)
        assert (place / "eval/scores.csv").read_text() == (tiny_run / "eval/scores.csv").read_text()
        assert json.loads((place / "eval/metrics.json").read_text())["pixel_gaussian_auroc"] is None


def test_imports_without_what_only_linux_has():
    code = "import sys; sys.modules['fcntl'] = None; import os; del os.posix_fallocate; "
    code += "from cutpaste_tf import train, evaluate"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_large_sets_without_posix_fallocate(category, monkeypatch, tmp_path):
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 1000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    expected = sources.read_train(category, 32).hashes
    monkeypatch.delattr(os, "posix_fallocate")
    assert sources.read_train(category, 32).hashes == expected


def test_a_replacement_that_is_denied_is_tried_again_where_the_system_is_windows(tmp_path, monkeypatch):
    """Of the loop alone, with a denial made here: nothing in these tests runs on Windows."""
    tries = []

    def replace(self, target):
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError
        os.rename(self, target)

    monkeypatch.setattr(files.os, "name", "nt")
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(type(tmp_path), "replace", replace)
    files.write_whole(tmp_path / "file", b"content")
    monkeypatch.undo()
    assert (len(tries), (tmp_path / "file").read_bytes()) == (3, b"content")


@pytest.mark.parametrize(
    ("name", "message"), [("torch", "does not work here"), ("tf", "does not work here"), ("jax", "not installed")]
)
def test_an_impossible_backend_is_refused(category, tmp_path, name, message):
    code = (
        "import runpy, sys, importlib.util; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda n, *a: None if n == 'jax' else find(n, *a); "
        "sys.argv = ['train_main.py', *sys.argv[1:]]; runpy.run_path('train_main.py', run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, f"--data={category}", f"--output_dir={tmp_path / 'run'}"],
        cwd=ROOT, env={**os.environ, "KERAS_BACKEND": name}, capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, message in result.stderr, result.stderr.count("\n")) == (2, True, 1), result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_users_settings_of_keras_and_matplotlib_do_not_matter(category, tmp_path):
    (tmp_path / "home").mkdir()
    settings = {"backend": "torch", "floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}
    (tmp_path / "home/keras.json").write_text(json.dumps(settings))
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    environment = {
        **os.environ,
        "KERAS_HOME": str(tmp_path / "home"),
        "KERAS_MAX_STEPS_PER_EPOCH": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(tmp_path),
    }
    environment.pop("KERAS_BACKEND", None)
    common = {"cwd": ROOT, "env": environment, "check": True, "capture_output": True, "text": True}
    flags = [
        "--image_size=32",
        "--stem=imagenet",
        "--batch_size=6",
        "--epochs=1",
        "--steps_per_epoch=2",
        "--scar_max_length=20",
    ]
    run = tmp_path / "run"
    code = "import sys; sys.path.insert(0, 'tests'); import conftest; "
    code += f"conftest.command('train_main.py', '--data={category}', '--output_dir={run}', *sys.argv[1:]); "
    code += f"conftest.command('eval_main.py', '--run_dir={run}')"
    subprocess.run([sys.executable, "-c", code, "--backbone=toy", *flags], **common)
    assert (run / "eval/roc.png").is_file()
    assert "\n1,2," in (run / "train_log.csv").read_text()  # two steps, not one
    with np.load(run / "train_embeddings.npz") as arrays:
        assert arrays["features"].dtype == np.float32


def test_tensorflow_leaves_the_gpus_to_another_backend(monkeypatch):
    """As soon as it is imported: reading a prepared set starts it before training begins."""
    hidden = []
    monkeypatch.setattr(backend.tf.config, "set_visible_devices", lambda *arguments: hidden.append(arguments))
    backend.leave_gpus()
    assert not hidden
    monkeypatch.setattr(backend.keras.backend, "backend", lambda: "jax")
    backend.leave_gpus()
    assert hidden == [([], "GPU")]

    def too_late(*_):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(backend.tf.config, "set_visible_devices", too_late)
    with pytest.warns(UserWarning, match="was in use before cutpaste_tf"):
        backend.leave_gpus()


def test_the_backend_of_keras_json_is_taken_where_it_works(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "keras")
    for named, expected in (("jax", "jax"), ("torch", "tensorflow")):
        (tmp_path / "keras.json").write_text(json.dumps({"backend": named}))
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        environment.prepare()
        assert os.environ["KERAS_BACKEND"] == expected


def test_a_folder_s_name_may_have_a_comma(tiny_run, category, tmp_path, capsys):
    run = tmp_path / "runs, mine"
    shutil.copytree(tiny_run, run)
    command("eval_main.py", f"--run_dir={run}")
    command("eval_main.py", f"--run_dir={run}", f"--beside={run}", f"--output_dir={tmp_path}/again")
    auroc, beside = re.search(rf"Figures: image AUROC ([\d.]+) % \({run} ([\d.]+) %;", capsys.readouterr().out).groups()
    assert auroc == beside
