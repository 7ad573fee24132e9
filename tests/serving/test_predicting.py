"""Predictions are the evaluation's, file by file; what cannot be read is a row, and the rest goes on."""

import csv
import io
import json
import os
import re
import resource
import shutil
import signal
import sys

import numpy as np
import pytest
from conftest import TINY, command, write_image
from PIL import Image

import cutpaste_tf
from cutpaste_tf.detection import loading, prediction
from cutpaste_tf.detection.prediction import Box
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import named_files
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.progress import no_report
from cutpaste_tf.serving.predict import predict
from cutpaste_tf.serving.rows import FORMATS
from cutpaste_tf.serving.stream import PredictionOptions

IMAGES = TINY.replaced(epochs=0, false_alarm_rate=0.3)
PATCHES = IMAGES.replaced(image_size=64, patch_size=32, extract_size=32, stride=8)


def rows_of(run, images, **options):
    """Rows of JSON, and the summary."""
    output = io.StringIO()
    summary = predict(run, str(images), output, options=PredictionOptions(format="jsonl", **options), report=no_report)
    return [json.loads(line) for line in output.getvalue().splitlines()], summary


@pytest.mark.parametrize("config", [IMAGES, PATCHES], ids=["images", "patches"])
def test_rows_are_those_of_the_evaluation_and_of_python(config, copied_run, category, tmp_path, capsys):
    run = copied_run(config, category, tmp_path / "run")
    cutpaste_tf.evaluate(run, report=no_report)
    with (run / "eval/scores.csv").open() as file:
        expected = {row["path"]: (row["score"], row["p_value"], row["decision"]) for row in csv.DictReader(file)}
    capsys.readouterr()
    command("predict_main.py", f"--detector={run}", f"--images={category}/test", f"--output={tmp_path}/rows.csv")
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    actual = {os.path.relpath(row["path"], category): (row["score"], row["p_value"], row["decision"]) for row in rows}
    assert actual == expected
    assert not any(row["error"] for row in rows)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"Detector: {run}, a" in printed.err
    assert "30 % false alarms, from 6 normal images" in printed.err
    assert "Scored 6 images" in printed.err
    assert "images/s" in printed.err

    detector = loading.load(run)
    for row in rows:
        by_path = detector.predict(row["path"])
        by_pixels = detector.predict(np.asarray(Image.open(row["path"])))
        assert by_path == by_pixels
        assert by_path.score == pytest.approx(float(row["score"]), rel=1e-4)  # scored alone
        assert (f"{by_path.p_value:.6f}", by_path.decision) == (row["p_value"], row["decision"])
        assert by_path.heat_map is None
        if config.patch_size:
            assert json.loads(row["boxes"]) == [box._asdict() for box in by_path.boxes]
            assert bool(by_path.boxes) == by_path.is_anomalous  # the score is the map's maximum
    heat = detector.predict(rows[0]["path"], heat_map=True).heat_map
    scored = detector.score(np.asarray(Image.open(rows[0]["path"]))[None], heat_maps=True)
    np.testing.assert_array_equal(heat, resize(Image.fromarray(scored.heat_maps[0]), 40, 40))
    for row in rows:
        assert detector.predict(row["path"], false_alarm_rate=0.9).is_anomalous == (float(row["p_value"]) <= 0.9)


@pytest.mark.parametrize("config", [IMAGES, PATCHES], ids=["images", "patches"])
def test_heat_maps_are_at_the_image_s_own_size(config, copied_run, category, tmp_path):
    run = copied_run(config, category, tmp_path / "run")
    write_image(tmp_path / "photos/sub/wide.png", np.full((30, 170, 3), 200, np.uint8))
    write_image(tmp_path / "photos/wide.jpg", np.full((80, 50, 3), 20, np.uint8))
    arrays, _ = rows_of(run, tmp_path / "photos", heat_maps=tmp_path / "arrays")
    pictures, _ = rows_of(run, tmp_path / "photos", heat_maps=tmp_path / "pictures", heat_map_format="png")
    names = {str(path.relative_to(tmp_path / "arrays")) for path in (tmp_path / "arrays").rglob("*.*")}
    assert names == {f"{name}.{kind}" for name in ("sub/wide.png", "wide.jpg") for kind in ("heat.npy", "overlay.jpg")}
    assert [row["path"] for row in arrays] == [str(tmp_path / "photos" / name) for name in ("sub/wide.png", "wide.jpg")]
    detector = loading.load(run)
    for row, other in zip(arrays, pictures, strict=True):
        image = np.asarray(Image.open(row["path"]))
        raw = np.load(row["heat_map"])
        assert (raw.shape, raw.dtype) == (image.shape[:2], np.float32)
        assert Image.open(row["overlay"]).size == image.shape[1::-1]
        whole = detector.predict(row["path"], heat_map=True).heat_map
        np.testing.assert_allclose(raw.mean(), whole.mean(), rtol=0.1, atol=1e-6)
        with Image.open(other["heat_map"]) as grey:
            assert grey.mode.startswith("I")  # 16 bits
            assert float(grey.info["heat_of_65535"]) == other["heat_of_65535"]
            back = np.asarray(grey) * (other["heat_of_65535"] / 65535)
        np.testing.assert_allclose(back, raw, atol=other["heat_of_65535"] / 65535)
        for box in row.get("boxes", ()):
            inside = raw[box["top"] : box["top"] + box["height"], box["left"] : box["left"] + box["width"]]
            assert inside.max() == pytest.approx(box["heat"], rel=0.2)


def test_boxes_lie_around_hot_regions_in_pixels_of_the_image():
    heat = np.zeros((8, 8), np.float32)
    heat[1:3, 2:4] = 5
    heat[2, 3] = 7
    heat[6, 0] = 9
    heat[4, 4] = 3  # not above
    regions = prediction.boxes(heat, 3.0, (16, 80))
    assert regions == (Box(0, 60, 2, 10, 9.0), Box(4, 10, 4, 20, 7.0))
    assert prediction.boxes(heat, 10.0, (16, 80)) == ()
    # A region that covers parts of pixels has all of them.
    assert prediction.boxes(heat, 8.0, (10, 12)) == (Box(0, 9, 2, 2, 9.0),)


def test_what_cannot_be_read_is_a_row_and_the_rest_goes_on(copied_run, category, tmp_path, capsys):
    run = copied_run(IMAGES, category, tmp_path / "run")
    photos = tmp_path / "photos"
    good = [write_image(photos / f"{name}.png", np.full((30, 30, 3), 99, np.uint8)) for name in ("b", "d/ü", "f")]
    (photos / "a.png").write_bytes(good[0].read_bytes()[:60])
    (photos / "c.txt").write_text("no image")
    (photos / "d/again").symlink_to(photos)
    (photos / "e.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(photos / "h.png")
    write_image(photos / "set/ground_truth/i_mask.png", np.zeros((30, 30), np.uint8))
    write_image(photos / "g.png", np.zeros((400, 400, 3), np.uint8))
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        command("predict_main.py", f"--detector={run}", f"--images={photos}", "--max_megapixels=0.1")
    assert end.value.code == 1
    printed = capsys.readouterr()
    rows = {os.path.relpath(row["path"], photos): row for row in csv.DictReader(io.StringIO(printed.out))}
    names = ["a.png", "b.png", "c.txt", "d/again", "d/ü.png", "e.png", "f.png", "g.png", "h.png", "set/ground_truth"]
    assert list(rows) == names
    errors = {
        "a.png": "cannot be read as an image",
        "c.txt": "is not an image",
        "d/again": "is a link to a folder that contains it",
        "e.png": "there is no such file",
        "g.png": "more than --max_megapixels=0.1",
        "h.png": "is not a file but a pipe",
        "set/ground_truth": "is a folder of masks; masks are not scored",
    }
    for name, row in rows.items():
        assert errors.get(name, "") in row["error"]
        assert bool(row["error"]) == (name in errors) == (not row["score"])
    assert "Scored 3 images" in printed.err
    assert "7 more could not be read" in printed.err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are UTF-8")
@pytest.mark.parametrize("format", FORMATS)
def test_odd_names_and_sizes_have_heat_maps(copied_run, category, tmp_path, format):
    """A name that is not UTF-8, and a picture wider than a JPEG may be."""
    run = copied_run(PATCHES, category, tmp_path / "run")
    odd = os.fsencode(tmp_path / "photos/") + b"/\xff.png"
    write_image(tmp_path / "photos/wide.png", np.full((2, 70000, 3), 99, np.uint8))
    shutil.copy(next(category.glob("test/good/*.png")), odd)
    with (tmp_path / "rows").open("x", encoding="utf-8") as output:
        options = PredictionOptions(format=format, heat_maps=tmp_path / "maps")
        summary = predict(run, str(tmp_path / "photos"), output, options=options, report=no_report)
    assert (summary.images, summary.errors) == (2, 0)
    assert (tmp_path / "rows").read_text().count("xff.png") == 3  # path, heat map, overlay
    assert Image.open(tmp_path / "maps/wide.png.overlay.jpg").width == 65500
    assert np.load(tmp_path / "maps/wide.png.heat.npy").shape == (2, 70000)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
@pytest.mark.parametrize(
    ("flag", "full"), [("--heat_maps", "maps/good/000.png.heat.npy"), ("--output", "rows.csv.partial")]
)
def test_a_disk_that_fills_up_is_named(copied_run, category, tmp_path, capsys, flag, full):
    """A limit to the size of files fails in the same places."""
    run = copied_run(PATCHES, category, tmp_path / "run")
    words = [
        f"--detector={run}",
        f"--images={category / 'test'}",
        f"{flag}={tmp_path / full.partition('/')[0].removesuffix('.partial')}",
    ]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(SystemExit):
            command("predict_main.py", *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert f"error: {tmp_path / full}: File too large." in capsys.readouterr().err
    assert (tmp_path / full).exists() == (flag == "--output")  # the rows that fit stand, half a map does not


def test_names_on_standard_input_are_answered_one_by_one(copied_run, category, tmp_path):
    run = copied_run(IMAGES, category, tmp_path / "run")
    files = sorted(category.glob("test/*/*.png"))
    output = io.StringIO()

    def names():
        for index, path in enumerate(files):
            assert len(output.getvalue().splitlines()) == index  # before the next is known
            yield os.fsencode(path) + b"\n"

    predict(run, "-", output, options=PredictionOptions(format="jsonl", batch_size=1), lines=names(), report=no_report)
    assert len(output.getvalue().splitlines()) == len(files)


def test_few_names_are_taken_ahead(copied_run, category, tmp_path):
    """So that memory does not grow with their number."""
    run = copied_run(IMAGES, category, tmp_path / "run")
    path = os.fsencode(next(category.glob("test/good/*.png")))
    output, taken = io.StringIO(), []

    def names():
        for index in range(200):
            taken.append(index - len(output.getvalue().splitlines()))
            yield path

    summary = predict(
        run, "-", output, options=PredictionOptions(format="jsonl", batch_size=8), lines=names(), report=no_report
    )
    assert summary.images == 200
    assert max(taken) <= 16


def test_what_is_no_picture_is_refused_in_programs(copied_run, category, tmp_path):
    detector = loading.load(copied_run(IMAGES, category, tmp_path / "run"))
    for pixels in (
        np.zeros((3, 3), np.uint8),
        np.zeros((0, 3, 3), np.uint8),
        np.zeros((3, 3, 3)),
        np.zeros((3, 3, 4), np.uint8),
    ):
        shown = f"an image is {pixels.dtype} {list(pixels.shape)}; expected RGB, uint8 [height, width, 3]"
        with pytest.raises(InputError, match=re.escape(shown)):
            detector.predict(pixels)


def test_results_do_not_go_where_a_pattern_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photos/x.png", np.zeros((4, 4, 3), np.uint8))
    for place, named in [("photos/rows.csv", "photos/*"), ("photos/maps", "photos/*"), ("photos/maps", "*/*/*.png")]:
        with pytest.raises(InputError, match=r"is inside --images="):
            named_files.refuse_inside(tmp_path / place, named, "--heat_maps", is_folder=True)
    for place, named in [("rows.csv", "*.png"), ("photos/rows.csv", "photos/*/*.png"), ("maps", "photos/*")]:
        named_files.refuse_inside(tmp_path / place, named, "--output", is_folder=False)


def test_training_images_are_told(copied_run, category, tmp_path):
    run = copied_run(IMAGES, category, tmp_path / "run")
    lines = []
    summary = predict(run, str(category / "train/good/*.png"), io.StringIO(), report=lines.append)
    assert summary.trained_on == 6
    assert "Warning: 6 of them are training images" in lines[-1]


def test_a_detector_without_scores_of_normal_images_decides_nothing(copied_run, category, tmp_path):
    run = copied_run(IMAGES, category, tmp_path / "run")
    (run / "detector/calibration.npz").unlink()
    output = io.StringIO()
    predict(run, str(category / "test"), output, report=no_report)
    assert output.getvalue().splitlines()[0] == "path,score,error"
    result = loading.load(run).predict(next(category.glob("test/good/*.png")))
    assert (result.p_value, result.is_anomalous, result.decision, result.boxes) == (None, None, "", None)
    with pytest.raises(ValueError, match="has no scores of normal images"):
        predict(run, str(category / "test"), output, options=PredictionOptions(false_alarm_rate=0.3), report=no_report)


def test_where_results_of_a_name_lie(tmp_path, monkeypatch):
    """Within the folder of results, each at its own place."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "a/b/x.png", "a/b/x.jpg"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))

    def places(named, lines=()):
        return [str(file.place) for file in named_files.listed(named, lines)]

    assert places("a") == places("a/**/*.*") == places(f"{tmp_path}/a/*") == ["b/x.jpg", "b/x.png", "x.png"]
    assert places("a/x.png") == ["x.png"]
    lines = [b"a/x.png\n", b"\n", b"../y.png\r\n", bytes(tmp_path / "a/x.png")]
    root = tmp_path.relative_to("/")
    assert places("-", lines) == ["a/x.png", str(root.parent / "y.png"), str(root / "a/x.png")]
    long = named_files.Path("a") / ("ü" * 120 + ".png")
    assert len(os.fsencode(named_files.beside(long, ".overlay.jpg").name)) < 255
