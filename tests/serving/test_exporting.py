"""`export_main.py`: what it refuses, what it leaves behind, and what an evaluation by an export refuses."""

import csv
import json
import os
import resource
import shutil
import signal

import numpy as np
import pytest
from conftest import TINY, command, draw_category, write_image

import cutpaste_tf
from cutpaste_tf.detection.detector import Scores
from cutpaste_tf.detection.image_detector import ImageDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.evaluate import evaluate
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.progress import no_report
from cutpaste_tf.serving.export import ExportOptions, export

PATCHES = TINY.replaced(image_size=64, patch_size=32, extract_size=32, stride=8, epochs=0, scar_max_length=20)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run and its export, not to be changed."""
    root = tmp_path_factory.mktemp("exported")
    category = draw_category(root / "category")
    cutpaste_tf.train(TINY.replaced(epochs=0, data=str(category)), root / "run", report=no_report)
    export(root / "run", root / "export", options=ExportOptions(false_alarm_rate=0.3), report=no_report)
    return root


def test_the_command_writes_an_export_and_an_evaluation_takes_it(tiny_run, tmp_path, capsys):
    command("export_main.py", f"--run_dir={tiny_run}", f"--output={tmp_path / 'out'}", "--false_alarm_rate=0.3")
    shown = capsys.readouterr()
    assert "30 % false alarms, from the scores of 6 normal images" in shown.out
    assert not shown.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "1",
        "calibration.npz",
        "config.json",
        "export.json",
        "training_data.json",
    ]
    command("eval_main.py", f"--run_dir={tmp_path / 'out'}")
    assert (tmp_path / "out/eval/report.html").is_file()
    command("eval_main.py", f"--run_dir={tiny_run}", "--false_alarm_rate=0.3")
    decided = []
    for place in (tiny_run / "eval_false_alarm_rate=0.3", tmp_path / "out/eval"):
        with (place / "scores.csv").open() as file:
            decided.append([(row["path"], row["p_value"], row["decision"]) for row in csv.DictReader(file)])
    assert decided[0] == decided[1]
    with pytest.raises(SystemExit):
        command("eval_main.py", f"--run_dir={tmp_path / 'out'}", f"--calibration_data={tmp_path}")
    assert "An export's threshold is fixed when it is made" in capsys.readouterr().err


def test_an_export_takes_the_place_of_another(tiny_run, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("export.json", "model.onnx"):
        (tmp_path / "out" / name).write_text("{}")
    export(tiny_run, tmp_path / "out", options=ExportOptions(false_alarm_rate=0.3), report=no_report)
    assert json.loads((tmp_path / "out/export.json").read_text())["format"] == "saved_model"
    assert not (tmp_path / "out/model.onnx").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["category", "out", "run"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_dir": "nowhere"}, "nowhere does not exist; give the folder of a run"),
        ({"output": "file"}, "is a file; give a folder"),
        ({"output": "category"}, "is not the folder of an export"),
        ({"output": "/proc/export"}, "cannot be written"),
        ({"run_dir": "export"}, "is already an export"),
        ({"false_alarm_rate": 1.0}, "must be between 0 and 1"),
        ({"false_alarm_rate": 0.01}, r"--false_alarm_rate=0.01.*0\.1429"),
        ({"format": "pickle"}, "must be one of: saved_model, onnx, litert"),
    ],
)
def test_what_is_refused(options, message, exported):
    (exported / "file").touch()
    before = sorted(exported.iterdir())
    places = {"run_dir": "run", "output": "out", **options}
    run_dir, output = (exported / places.pop(name) for name in ("run_dir", "output"))
    with pytest.raises(InputError, match=message):
        export(run_dir, output, options=ExportOptions(**{"false_alarm_rate": 0.3, **places}), report=no_report)
    assert sorted(exported.iterdir()) == before


def test_an_incomplete_run_is_refused(tmp_path):
    config = TINY.replaced(data="parts")
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(InputError, match="is not complete; run its train_main"):
        export(tmp_path, tmp_path / "out")
    (tmp_path / "config.json").write_text(json.dumps({"data": "parts"}))
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector/model.keras").touch()
    (tmp_path / "detector/config.json").write_text(json.dumps({"data": "parts"}))
    with pytest.raises(InputError, match=r"was written by cutpaste_tf 0\.1"):
        export(tmp_path, tmp_path / "out")


def test_a_detector_without_scores_of_normal_images_is_refused(exported, tmp_path, monkeypatch):
    shutil.copytree(exported / "run", tmp_path / "run")
    for path in (tmp_path / "run/detector/calibration.npz", tmp_path / "run/train_embeddings.npz"):
        path.unlink()
    with pytest.raises(InputError, match="made by an earlier version of cutpaste_tf"):
        export(tmp_path / "run", tmp_path / "out")


def test_another_backend_is_refused(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(cutpaste_tf.environment, "backend", lambda: "jax")
    with pytest.raises(InputError, match="KERAS_BACKEND is jax; set KERAS_BACKEND=tensorflow"):
        export(exported / "run", tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_disk_that_fills_up_leaves_nothing(exported, tmp_path):
    """A limit to the size of files fails in the same places."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(InputError, match="out cannot be written"):
            export(exported / "run", tmp_path / "out", options=ExportOptions(false_alarm_rate=0.3), report=no_report)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_what_an_evaluation_by_an_export_refuses(exported, tmp_path):
    folder = exported / "export"
    with pytest.raises(InputError, match="is an export, which fixes the settings of density"):
        evaluate(folder, settings={"density": "kde"})
    assert evaluate(folder, settings={"false_alarm_rate": 0.5}, report=no_report)["false_alarm_rate"] == 0.5
    with pytest.raises(InputError, match="whose GradCAM uses the map that its feature pools"):
        evaluate(folder, options=EvaluationOptions(gradcam_layer="layer4_1"), report=no_report)
    with pytest.raises(InputError, match="cannot be part of an ensemble"):
        evaluate([folder, exported / "run"], output_dir=tmp_path / "out")
    with pytest.raises(InputError, match="images have the same pixels as training images"):
        evaluate(folder, str(exported / "category/train/good"), report=no_report)


def test_an_export_without_its_calibration_is_no_export(exported, tmp_path):
    shutil.copytree(exported / "export", tmp_path / "copy")
    (tmp_path / "copy/calibration.npz").unlink()
    with pytest.raises(InputError, match=r"copy/calibration.npz is missing: copy the folder again"):
        evaluate(tmp_path / "copy")


def test_a_damaged_export_is_named(tiny_run, tmp_path):
    out = tmp_path / "out"
    export(tiny_run, out, options=ExportOptions(false_alarm_rate=0.3), report=no_report)
    graph = out / "1/saved_model.pb"
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"saved_model\.pb is not the file that was exported"):
        evaluate(out)
    graph.unlink()
    with pytest.raises(InputError, match=r"saved_model\.pb is missing"):
        evaluate(out)
    (out / "export.json").write_text('{"format": "saved_model"}')
    with pytest.raises(InputError, match="is damaged or from another version"):
        evaluate(out)


def test_formats_of_single_precision(exported, tmp_path):
    for package in ("tf2onnx", "onnxruntime", "ai_edge_litert"):
        pytest.importorskip(package)
    for name, file in (("onnx", "model.onnx"), ("litert", "model.tflite")):
        record = export(
            exported / "run",
            tmp_path / name,
            options=ExportOptions(false_alarm_rate=0.3, format=name),
            report=no_report,
        )
        assert set(record["files"]) == {file}
        assert record["difference"]["images"] == 12  # six, and the same mirrored
        assert record["difference"]["score_of_range"] < 1e-3
        assert record["difference"]["p_value"] < 1e-6
        with pytest.raises(InputError, match=f"is an export with --format={name}"):
            evaluate(tmp_path / name)


@pytest.mark.parametrize("config", [TINY.replaced(epochs=0), PATCHES], ids=["image", "patches"])
def test_the_threshold_of_other_normal_images(copied_run, category, tmp_path, config):
    run = copied_run(config, category, tmp_path / "run")
    fresh = draw_category(tmp_path / "other") / "train/good"
    for index, path in enumerate(sorted(fresh.iterdir())):
        write_image(path, np.random.default_rng(index).integers(0, 255, (40, 40, 3), np.uint8))
    options = ExportOptions(false_alarm_rate=0.2)
    record = export(run, tmp_path / "out", options=options._replace(calibration_data=fresh), report=no_report)
    settings = {"false_alarm_rate": 0.2}
    result = cutpaste_tf.evaluate(run, category, options=EvaluationOptions(calibration_data=fresh), settings=settings)
    assert record["threshold"] == pytest.approx(result["threshold"], rel=1e-9)
    assert evaluate(tmp_path / "out")["threshold"] == pytest.approx(result["threshold"], rel=1e-9)
    assert export(run, tmp_path / "own", options=options, report=no_report)["threshold"] < record["threshold"]
    for named, message in [
        (category / "train/good", "6 of 6 images have the same pixels .* Give images that were not used for training."),
        (tmp_path / "none", "none is not a folder; give"),
    ]:
        with pytest.raises(InputError, match=f"^--calibration_data={named}: .*{message}"):
            export(run, tmp_path / "refused", options=options._replace(calibration_data=named), report=no_report)
    assert not (tmp_path / "refused").exists()


def test_without_the_training_images_others_are_named(tiny_run, category, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    category.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"no longer where they were .* as --comparison_images"):
        export(tiny_run, tmp_path / "out", options=ExportOptions(false_alarm_rate=0.3, format="onnx"))
    for index in range(4):
        write_image(tmp_path / f"others/{index}.png", np.full((40, 40, 3), 90 + 9 * index, np.uint8))
    options = ExportOptions(false_alarm_rate=0.3, format="onnx", comparison_images=tmp_path / "others")
    record = export(tiny_run, tmp_path / "out", options=options, report=no_report)
    assert record["difference"]["images"] == 8


def test_a_missing_package_is_named(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package tf2onnx; run pip install 'cutpaste_tf\[export\]'"):
        export(exported / "run", tmp_path / "out", options=ExportOptions(format="onnx"))


def test_an_export_that_decides_otherwise_is_refused(exported, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(
        ImageDetector,
        "score",
        lambda self, images, **_: Scores(np.full(len(images), 1e9), np.ones(images.shape[:3], np.float32)),
    )
    with pytest.raises(InputError, match=r"of 12 images get a different decision than in the evaluation"):
        export(
            exported / "run",
            tmp_path / "out",
            options=ExportOptions(false_alarm_rate=0.3, format="onnx"),
            report=no_report,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_second_export_is_the_next_version(tiny_run, tmp_path):
    """TensorFlow Serving loads the highest number; the version before stays while it does."""
    for number in (1, 2, 3):
        record = export(tiny_run, tmp_path / "out", options=ExportOptions(false_alarm_rate=0.3), report=no_report)
        assert record["version"] == number
        assert {name.partition("/")[0] for name in record["files"]} == {str(number)}
        versions = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
        assert versions == {str(number), str(number - 1)} - {"0"}
    assert evaluate(tmp_path / "out", report=no_report)["image_auroc"] is not None
