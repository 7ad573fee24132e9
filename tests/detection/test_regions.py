"""Only the region counts: pixels outside change nothing, heat and boxes stay inside, in every way to score."""

import io
import json

import numpy as np
import pytest
from conftest import TINY, draw_category, write_image
from PIL import Image

import cutpaste_tf
from cutpaste_tf.detection import dense
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.pixel_metrics import pixel_metrics
from cutpaste_tf.images import regions
from cutpaste_tf.images.synthetic import SyntheticOptions
from cutpaste_tf.progress import no_report
from cutpaste_tf.serving.predict import predict
from cutpaste_tf.serving.stream import PredictionOptions
from cutpaste_tf.settings.scoring import FeatureSettings

IMAGE = TINY.replaced(epochs=0, image_size=64)
PATCHES = IMAGE.replaced(patch_size=32, extract_size=16, stride=8)
KINDS = {
    "image": IMAGE,
    "shared": PATCHES.replaced(density_mode="shared"),
    "per location": PATCHES.replaced(density_mode="per_location", image_score="patches"),
    "nearest": PATCHES.replaced(density="nearest", coreset=40),
}
REGION = np.zeros((40, 40), bool)
REGION[5:30, 8:40] = True


def changed_outside(category, folder, seed):
    """The category with other pixels outside the region; drawn at the networks' own size, which is not resized."""
    for path in category.rglob("*.png"):
        picture = Image.open(path).resize((64, 64), Image.Resampling.NEAREST)
        pixels = np.array(picture)
        if "ground_truth" not in path.parts:
            inside = np.asarray(Image.fromarray(REGION).resize((64, 64), Image.Resampling.NEAREST))
            pixels[~inside] = np.random.default_rng(seed).integers(0, 256, 3)
            pixels[20, 20] = 0  # a black pixel inside
        write_image(folder / path.relative_to(category), pixels)
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    category = draw_category(root / "category")
    write_image(root / "region.png", REGION.astype(np.uint8) * 255)
    return [changed_outside(category, root / f"set{seed}" / "parts", seed) for seed in (1, 2)], root / "region.png"


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_outside_changes_nothing(kind, sets, tmp_path):
    """Not one bit of scores, thresholds and maps; export and prediction agree."""
    folders, region = sets
    results, maps = [], []
    for index, folder in enumerate(folders):
        run = tmp_path / f"run{index}"
        cutpaste_tf.train(KINDS[kind].replaced(data=str(folder), region=str(region)), run, report=no_report)
        cutpaste_tf.evaluate(run, report=no_report)
        results.append((run / "eval/scores.csv").read_text())
        detector = cutpaste_tf.load(run)
        files = sorted((folder / "test").rglob("*.png"))
        maps.append(np.stack([detector.predict(path, heat_map=True).heat_map for path in files]))
    assert results[0] == results[1]
    np.testing.assert_array_equal(*maps)
    inside = np.asarray(Image.fromarray(REGION).resize((64, 64), Image.Resampling.NEAREST))
    assert not maps[0][:, ~inside].any()
    assert maps[0].any()
    rows = io.StringIO()
    predict(detector, str(folders[1] / "test"), rows, options=PredictionOptions(format="jsonl"), report=no_report)
    predicted = [json.loads(line) for line in rows.getvalue().splitlines()]
    scores = [float(line.split(",")[3]) for line in results[0].splitlines()[1:]]
    np.testing.assert_allclose([row["score"] for row in predicted], scores, rtol=1e-5, atol=1e-4)
    for box in (box for row in predicted for box in row.get("boxes") or ()):
        assert box["left"] >= 12
        assert box["top"] + box["height"] <= 49
    cutpaste_tf.export(run, tmp_path / "export", report=no_report)
    exported = cutpaste_tf.evaluate(tmp_path / "export", folders[0], output_dir=tmp_path / "eval", report=no_report)
    assert exported["image_auroc"] == json.loads((run / "eval/metrics.json").read_text())["image_auroc"]
    original = np.stack([np.asarray(Image.open(path)) for path in files])
    answer = cutpaste_tf.load(tmp_path / "export").score(original)
    np.testing.assert_allclose(answer.scores, detector.score(original).scores, rtol=1e-5)
    np.testing.assert_allclose(answer.heat_maps, maps[1], atol=1e-4 * maps[1].max())


def test_synthetic_anomalies_end_at_the_region(sets, tmp_path):
    folders, region = sets
    cutpaste_tf.train(KINDS["shared"].replaced(data=str(folders[0]), region=str(region)), tmp_path / "run")
    options = cutpaste_tf.EvaluationOptions(synthetic=SyntheticOptions("square", "color", "", 0))
    result = cutpaste_tf.evaluate(tmp_path / "run", options=options, report=no_report)
    assert result["test_anomalous"] == result["test_normal"]
    inside = np.asarray(Image.fromarray(REGION).resize((64, 64), Image.Resampling.NEAREST))
    for path in (tmp_path / "run/eval_square_color_images/test/square").iterdir():
        assert not np.asarray(Image.open(path))[~inside].any()


def test_the_detector_carries_its_region(sets, tmp_path):
    folders, region = sets
    mine = tmp_path / "mine.png"
    mine.write_bytes(region.read_bytes())
    cutpaste_tf.train(KINDS["shared"].replaced(data=str(folders[0]), region=str(mine)), tmp_path / "run")
    before = cutpaste_tf.load(tmp_path / "run").predict(folders[0] / "test/square/000.png")
    mine.unlink()
    (tmp_path / "run/detector").rename(tmp_path / "copy")
    assert cutpaste_tf.load(tmp_path / "copy").predict(folders[0] / "test/square/000.png") == before


@pytest.mark.parametrize("kind", ["image", "shared", "nearest"])
def test_every_image_may_have_its_own(kind, sets, tmp_path):
    """By its name; images that are equal inside their regions get equal scores."""
    folders, _ = sets
    for path in folders[0].rglob("*.png"):
        region = np.zeros((64, 64), np.uint8)
        region[:, : 40 if int(path.stem[:3]) % 2 else 64] = 255
        if "ground_truth" not in path.parts:
            write_image(tmp_path / "regions" / path.relative_to(folders[0]).parent / f"{path.stem}_mask.png", region)
    config = KINDS[kind].replaced(data=str(folders[0]), region=str(tmp_path / "regions"))
    cutpaste_tf.train(config, tmp_path / "run", report=no_report)
    result = cutpaste_tf.evaluate(tmp_path / "run", report=no_report)
    assert result["image_auroc"] is not None
    detector = cutpaste_tf.load(tmp_path / "run")
    assert detector.region is None
    prediction = detector.predict(folders[0] / "test/square/001.png", heat_map=True)
    assert not prediction.heat_map[:, 40:].any()
    with pytest.raises(InputError, match=r"has no mask for .*; it should be new\.png"):
        detector.predict(write_image(tmp_path / "new.png", np.zeros((64, 64, 3), np.uint8)))
    with pytest.raises(InputError, match="The run cannot be exported"):
        cutpaste_tf.export(tmp_path / "run", tmp_path / "export", report=no_report)


def test_a_region_survives_in_the_pixels():
    image = np.random.default_rng(0).integers(0, 2, (9, 9, 3), np.uint8) * 255
    region = np.random.default_rng(1).random((9, 9)) < 0.5
    blanked = regions.blank(image, region)
    np.testing.assert_array_equal(regions.inside(blanked), region)
    np.testing.assert_array_equal(regions.blank(blanked, region), blanked)
    assert np.abs(blanked[region].astype(int) - image[region]).max() == 1


def test_every_pixel_of_a_region_belongs_to_a_patch():
    settings = FeatureSettings.of(extract_size=32, stride=8)
    for row, column in [(0, 0), (63, 95), (31, 40), (0, 50)]:
        region = np.zeros((1, 64, 96), bool)
        region[0, row, column] = True
        assert dense.inside(region, settings).sum() == 1
    assert dense.inside(np.ones((2, 64, 96), bool), settings).all()
    assert not dense.inside(np.zeros((2, 64, 96), bool), settings).any()


def test_pixels_outside_do_not_count_as_found_normal():
    maps = np.zeros((2, 4, 4), np.float32)
    maps[1, 0, :2], maps[0, 1, 0] = (3, 1), 2
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[:, :2, :2] = 9
    arguments = maps, [None, mask], np.array([0, 1]), ["good", "spot"]
    inside = pixel_metrics(*arguments, images)["pixel_auroc"]
    assert inside == pytest.approx(100 * (6 + 5) / 12)  # 2 of the defect, 6 normal ones
    assert pixel_metrics(*arguments)["pixel_auroc"] > inside


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [((40, 80), 1, "must have the same aspect"), ((40, 40), 0, "marks nothing"), (None, 0, "does not exist")],
)
def test_a_region_that_cannot_be_is_refused(shape, value, message, sets, tmp_path):
    if shape:
        write_image(tmp_path / "region.png", np.full(shape, value, np.uint8))
    config = IMAGE.replaced(data=str(sets[0][0]), region=str(tmp_path / "region.png"))
    with pytest.raises(InputError, match=message):
        cutpaste_tf.train(config, tmp_path / "run", report=no_report)
    assert not (tmp_path / "run/detector").exists()
