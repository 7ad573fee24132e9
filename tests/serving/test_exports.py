"""An export scores as the evaluation does: the same scores, p-values, decisions and heat maps."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw_category
from models import MODELS, RUN, fitted_and_pictures, pictures
from PIL import Image

import cutpaste_tf
from cutpaste_tf.detection import dense, loading
from cutpaste_tf.detection.exported_detector import ExportedDetector
from cutpaste_tf.detection.graphs.graph import Graph, Outputs
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images.synthetic import SyntheticOptions
from cutpaste_tf.progress import no_report
from cutpaste_tf.serving.export import ExportOptions, export
from cutpaste_tf.serving.predict import predict


def assert_same(outputs, detector, images, threshold):
    batches = [np.stack(images[:2]), *(image[None] for image in images[2:])]  # as they go through an export
    answers = [detector.score(batch, heat_maps=True) for batch in batches]
    scores = np.concatenate([answer.scores for answer in answers])
    extent = np.ptp(np.concatenate([scores, detector.calibration.scores]))
    np.testing.assert_allclose(outputs.score, scores, rtol=0, atol=1e-9 * extent)
    np.testing.assert_allclose(outputs.p_value, detector.calibration.p_values(scores), atol=1e-12)
    np.testing.assert_array_equal(outputs.is_anomalous, scores > threshold)
    maps = np.concatenate([answer.heat_maps for answer in answers])
    np.testing.assert_allclose(outputs.heat_map, maps, rtol=0, atol=1e-4 * maps.max())
    assert np.ptp(scores) > 0


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "ResNet-18" else name for name in MODELS]
)
def test_a_graph_scores_as_the_detector(name, monkeypatch):
    monkeypatch.setattr(dense, "_PIXELS", 2**14)  # several batches of patches, the last not full
    fitted, images = fitted_and_pictures(MODELS[name])
    threshold = fitted.calibration.threshold(0.3)
    graph = tf.function(Graph(fitted.graph(single=False), fitted.calibration.scores, threshold), autograph=False)
    parts = [graph(batch) for batch in (images[:2], *(image[None] for image in images[2:]))]
    assert_same(Outputs(*map(np.concatenate, zip(*parts, strict=True))), fitted, images, threshold)


def exported_as(run, folder):
    """An export's answers on `pictures`, and what they should be."""
    threshold = export(run, folder, options=ExportOptions(false_alarm_rate=0.3), report=no_report)["threshold"]
    serve = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
    images = pictures()
    batches = [np.stack(images[:2]), *(image[None] for image in images[2:])]  # other sizes of batches give other bits
    parts = [serve(images=tf.constant(batch)) for batch in batches]
    outputs = Outputs(*(np.concatenate([part[name] for part in parts]) for name in Outputs._fields))
    scored = [ExportedDetector(folder).score(batch) for batch in batches]
    np.testing.assert_array_equal(outputs.score, np.concatenate([result.scores for result in scored]))
    np.testing.assert_array_equal(outputs.heat_map, np.concatenate([result.heat_maps for result in scored]))
    return outputs, loading.load(run), images, threshold


_QUICK = "a side that is no power of two", "per location, exact"


@pytest.mark.parametrize(
    "name", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_an_export_scores_as_the_detector(name, copied_run, category, tmp_path, monkeypatch):
    """Saved, loaded, with images of any size."""
    monkeypatch.setattr(dense, "_PIXELS", 2**14)
    run = copied_run(MODELS[name], category, tmp_path / "run")
    assert_same(*exported_as(run, tmp_path / "export"))


@pytest.mark.slow
def test_an_efficientnet_is_exported(copied_run, category, tmp_path):
    run = copied_run(RUN.replaced(backbone="efficientnet_b0", image_size=64), category, tmp_path / "run")
    assert_same(*exported_as(run, tmp_path / "export"))


@pytest.mark.slow
def test_a_run_that_was_trained_on_jax_is_exported(category, tmp_path):
    flags = ["--image_size=64", "--stem=imagenet", "--epochs=0", "--scar_max_length=20", f"--data={category}"]
    subprocess.run(
        [sys.executable, "train_main.py", f"--output_dir={tmp_path / 'run'}", *flags],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        check=True,
        capture_output=True,
    )
    assert_same(*exported_as(tmp_path / "run", tmp_path / "export"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The run of an image model, its test images, and its export."""
    root = tmp_path_factory.mktemp("exported")
    category = draw_category(root / "category")
    for index, path in enumerate(sorted(category.glob("test/*/*.png"))):  # sizes of their own
        with Image.open(path) as image:
            image.resize((40 + 7 * index, 60 - index)).save(path)
    for path in category.glob("ground_truth/*/*.png"):
        image_path = category / "test/square" / path.name.replace("_mask", "")
        with Image.open(path) as mask, Image.open(image_path) as image:
            mask.resize(image.size).save(path)
    cutpaste_tf.train(RUN.replaced(data=str(category), false_alarm_rate=0.3), root / "run", report=no_report)
    export(root / "run", root / "export", report=no_report)
    return root


def rows_of(folder):
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_predictions_by_it_are_the_run_s(exported):
    outputs = io.StringIO(), io.StringIO()
    for name, output in zip(("run", "export"), outputs, strict=True):
        predict(exported / name, str(exported / "category/test"), output, report=no_report)
    assert outputs[0].getvalue() == outputs[1].getvalue()
    assert len(outputs[0].getvalue().splitlines()) == 7


def test_an_evaluation_by_it_gives_the_same_file_of_scores(exported):
    results = [cutpaste_tf.evaluate(exported / name, report=no_report) for name in ("run", "export")]
    first, second = (rows_of(exported / name / "eval") for name in ("run", "export"))
    for ours, theirs in zip(first, second, strict=True):
        # The export scores images of other sizes one by one, which gives other bits than a batch.
        assert float(theirs.pop("score")) == pytest.approx(float(ours.pop("score")), rel=1e-4)
        assert ours == theirs
    for key in ("image_auroc", "pixel_auroc", "aupro"):
        assert results[0][key] == pytest.approx(results[1][key], abs=1e-3)  # maps are equal to float32
    assert (exported / "export/eval/heatmaps.png").is_file()
    assert not (exported / "export/eval/embeddings.npz").exists()


def test_synthetic_anomalies_are_scored_by_it(exported, tmp_path):
    options = EvaluationOptions(synthetic=SyntheticOptions("heart", "color", "", 0))
    for name in ("run", "export"):
        cutpaste_tf.evaluate(exported / name, options=options, output_dir=tmp_path / name, report=no_report)
    assert (tmp_path / "run/scores.csv").read_text() == (tmp_path / "export/scores.csv").read_text()


_ALONE = """
import json, sys
for name in ("cutpaste_tf", "keras", "PIL", "sklearn"):
    sys.modules[name] = None  # cannot be imported
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
pixels = [tf.io.decode_png(open(file, "rb").read(), channels=3)[None] for file in sys.argv[2:]]
each = [model.signatures["serving_default"](images=one) for one in pixels]
kinds = {name: one.dtype.name for name, one in each[0].items()}
print(json.dumps([kinds, [float(one["score"][0]) for one in each], each[0]["heat_map"].shape.as_list()]))
"""


def test_plain_tensorflow_loads_it(exported):
    """In a process that has never heard of this package, from pixels."""
    files = sorted((exported / "category/test").glob("*/*.png"))
    words = [sys.executable, "-c", _ALONE, exported / "export/1", *files]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(words, cwd=exported, env=clean, check=True, capture_output=True, text=True).stdout
    kinds, scores, shape = json.loads(shown)
    assert kinds == {"score": "float64", "p_value": "float64", "is_anomalous": "bool", "heat_map": "float32"}
    loaded = loading.load(exported / "run")
    expected = [loaded.score(np.asarray(Image.open(file).convert("RGB"))[None]).scores[0] for file in files]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9 * np.ptp(loaded.calibration.scores))
    assert shape == [1, 32, 32]


def test_its_signatures_are_those_that_serving_expects(exported):
    """TensorFlow Serving takes the folder as a model's base path."""
    assert tf.saved_model.contains_saved_model(exported / "export/1")
    signatures = tf.saved_model.load(exported / "export/1").signatures
    assert set(signatures) == {"serving_default", "serve"}
    (taken,) = signatures["serving_default"].structured_input_signature[1].values()
    assert (taken.name, taken.dtype, taken.shape.as_list()) == ("images", tf.uint8, [None, None, None, 3])


def test_every_array_is_written_once(exported):
    written = (exported / "export/1/variables/variables.data-00000-of-00001").stat().st_size
    loaded = loading.load(exported / "run")
    network = sum(4 * int(np.prod(weight.shape)) for weight in loaded.feature.weights)
    density = sum(array.nbytes for array in loaded.density.to_arrays().values())
    assert network + density < written < 1.2 * (network + density) + 20_000


def test_what_is_recorded(exported):
    record = json.loads((exported / "export/export.json").read_text())
    loaded = loading.load(exported / "run")
    assert record["threshold"] == loaded.calibration.threshold(0.3)
    assert (record["image_size"], record["false_alarm_rate"], record["calibration_images"]) == ([32, 32], 0.3, 6)
    assert {"1/saved_model.pb", "1/variables/variables.index"} <= set(record["files"])
    assert record["versions"]["tensorflow"] == tf.__version__
    assert len(record["training_data"]) == 64
