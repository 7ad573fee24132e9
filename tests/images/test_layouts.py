"""What folders users really have: good/ beside bad/, other names, links, deep and large pictures."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import TINY, write_image
from PIL import Image, ImageCms

import cutpaste_tf
from cutpaste_tf.detection import image_features, loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import reading, sources, unread
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import DataSettings
from cutpaste_tf.training import preparation

PIXELS = np.full((9, 9), 90, np.uint8)


def noise(path, seed):
    return write_image(path, np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8))


@pytest.fixture
def parts(tmp_path):
    """good/ beside bad/, ten images each."""
    for seed in range(10):
        noise(tmp_path / f"parts/good/{seed}.png", seed)
        noise(tmp_path / f"parts/bad/{seed}.png", 100 + seed)
    return tmp_path / "parts"


def names(items):
    return [item.path for item in items]


def test_good_beside_bad_is_split_by_a_seed(parts):
    train, test = sources.list_train(parts), sources.list_test(parts, trained=names(sources.list_train(parts)))
    assert len(train) == 8
    assert [item.label for item in test] == [1] * 10 + [0] * 2
    assert not set(names(train)) & set(names(test))
    assert names(sources.list_train(parts)) == names(train)
    assert names(sources.list_train(parts, DataSettings.of(split_seed=1))) != names(train)
    assert len(sources.list_train(parts, DataSettings.of(test_split=0.5))) == 5
    assert len(sources.list_train(parts, DataSettings.of(test_split=0.0))) == 10
    shutil.rmtree(parts / "bad")
    assert len(sources.list_train(parts)) == 10  # nothing to test beside them


def test_a_run_keeps_its_split(parts, tmp_path, capsys):
    config = TINY.replaced(data=str(parts), epochs=0)
    cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    assert "2 of 10 images in good/ are held out for testing" in capsys.readouterr().out
    noise(parts / "good/later.png", 50)
    cutpaste_tf.evaluate(tmp_path / "run", parts)
    result = json.loads((tmp_path / "run/eval/metrics.json").read_text())
    assert (result["train_images"], result["test_normal"], result["test_anomalous"]) == (8, 3, 10)
    cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    assert "already complete" in capsys.readouterr().out


def test_what_is_trained_on_is_not_tested_on(parts, tmp_path):
    def train(data, test_data):
        config = TINY.replaced(epochs=0, data=str(data), test_data=str(test_data))
        cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)

    with pytest.raises(InputError, match=r"10 of the test images in .*parts are also training images"):
        train(parts / "good", parts)
    (parts / "good").rename(parts / "lot1")
    (parts / "bad").rename(parts / "lot2")
    with pytest.raises(InputError, match=r"10 of the test images in .*lot2 are also training images"):
        train(parts, parts / "lot2")
    assert not (tmp_path / "run").exists()
    config = TINY.replaced(epochs=0, data=str(parts / "lot1"))
    cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    shutil.copytree(parts / "lot2", tmp_path / "test")
    Image.open(parts / "lot1/3.png").save(tmp_path / "test/same.bmp")
    for keep in range(2):  # found when features are computed, and when they are kept
        with pytest.raises(InputError, match=r"1 of 11 images .*\(same\.bmp = 3\.png\).*--allow_trained_images"):
            cutpaste_tf.evaluate(tmp_path / "run", tmp_path / "test")
        if not keep:
            cutpaste_tf.evaluate(
                tmp_path / "run", tmp_path / "test", options=EvaluationOptions(allow_trained_images=True)
            )


def test_linked_folders_are_read_and_loops_refused(category, tmp_path):
    for seed in range(3):
        noise(tmp_path / f"store/{seed}.png", seed)
    (category / "train/good/batch2").symlink_to(tmp_path / "store")
    assert len(sources.list_train(category)) == 9
    (category / "train/good/again").symlink_to(category / "train")
    with pytest.raises(InputError, match="again/good is a link to a folder that contains it"):
        sources.list_train(category)


def test_what_is_not_read_is_named(category):
    noise(category / "train/scratched/1.png", 1)
    noise(category / "validation/good/1.png", 2)  # one image sets no threshold
    lines = unread.lines(category, testing=False)
    assert sorted(line.rsplit("/", 1)[1] for line in lines) == ["scratched (1 images).", "validation (1 images)."]
    noise(category / "validation/good/2.png", 3)
    lines = unread.lines(category, testing=False)
    assert [line.rsplit("/", 1)[1] for line in lines] == ["scratched (1 images)."]


def test_the_normal_folder_may_have_another_name(category):
    (category / "test/good").rename(category / "test/Good")
    with pytest.raises(InputError, match=r"Good looks like a folder of normal images.* --normal_name=Good"):
        sources.list_test(category)
    for parent in ("train", "test"):
        next((category / parent).glob("[gG]ood")).rename(category / parent / "ok")
    (category / "test/square").rename(category / "test/ko")
    with pytest.raises(InputError, match=r"ok looks like a folder of normal images.*--normal_name=ok"):
        sources.list_train(category)
    named = DataSettings.of(normal_name="ok")
    assert len(sources.list_train(category, named)) == 6
    assert [item.defect for item in sources.list_test(category, named)] == ["ko"] * 3 + ["good"] * 3
    with pytest.raises(InputError, match="--normal_name=ok"):
        sources.list_test(category / "test")
    assert {item.label for item in sources.list_test(category / "test", named)} == {0, 1}


def deep(path, seed, shift, brightest=4095):
    pixels = np.random.default_rng(seed).integers(brightest // 2, brightest + 1, (32, 32)).astype(np.uint16)
    pixels[0, 0] = brightest
    return write_image(path, pixels << shift)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_white_of_deep_images_is_the_cameras(tmp_path, bits):
    for seed in range(2):
        deep(tmp_path / f"{seed}.png", seed, 0, 2**bits - 1)
    examples = sources.read_train(tmp_path, 32)
    assert examples.white == 2**bits - 1
    assert f"16-bit gray, white {2**bits - 1}" in examples.note
    pixels = np.asarray(Image.open(tmp_path / "0.png"), np.float64)
    np.testing.assert_array_equal(examples.images[0, ..., 0], np.round(pixels * 255 / (2**bits - 1)))
    assert sources.read_train(tmp_path, 32, DataSettings.of(white=65535)).white == 65535


def test_test_images_are_scaled_as_the_training_images(tmp_path):
    for seed in range(3):
        deep(tmp_path / f"train/{seed}.png", seed, 0)
        deep(tmp_path / f"test/{seed}.png", seed + 10, 0, 200)
    config = TINY.replaced(epochs=0, data=str(tmp_path / "train"))
    cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    cutpaste_tf.evaluate(tmp_path / "run", tmp_path / "test")
    features = np.load(tmp_path / "run/eval_data=test/embeddings.npz")["test_features"]
    dark = reading.read(sources.list_test(tmp_path / "test"), 32, DataSettings.of(white=4095))
    detector = loading.load(tmp_path / "run/detector")
    np.testing.assert_allclose(features, image_features.embed(detector.feature, dark.images), atol=1e-5)
    alone = [detector.predict(tmp_path / f"test/{seed}.png").score for seed in range(3)]
    np.testing.assert_allclose(alone, detector.score(dark.images).scores, rtol=1e-4)
    deep(tmp_path / "test/bright.png", 5, 4)
    with pytest.raises(
        InputError, match=r"bright\.png has pixels up to 65520, brighter than the .* white of 4095.*--white=65535"
    ):
        cutpaste_tf.evaluate(tmp_path / "run", tmp_path / "test")


def test_several_pages_are_refused(tmp_path):
    pages = [Image.fromarray(PIXELS + page) for page in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    write_image(tmp_path / "b.png", PIXELS)
    with pytest.raises(InputError, match=r"a\.tif holds 3 pages or frames"):
        sources.read_train(tmp_path, 32)


def test_transparency_shows_the_background_not_hidden_colors(tmp_path):
    hidden = np.dstack([np.full((9, 9, 3), (250, 10, 10), np.uint8), np.zeros((9, 9), np.uint8)])
    for name in "ab":
        write_image(tmp_path / f"{name}.png", hidden)
    examples = sources.read_train(tmp_path, 32, DataSettings.of(background=(1, 2, 3)))
    assert set(map(tuple, examples.images.reshape(-1, 3))) == {(1, 2, 3)}
    assert "on the background 1,2,3" in examples.note


def test_exotic_colors_are_converted_or_refused(tmp_path):
    red = Image.new("RGB", (9, 9), (200, 30, 40))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(red, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    lab.save(tmp_path / "lab.tif")
    np.testing.assert_allclose(reading.read_pixels(tmp_path / "lab.tif")[0, 0], (200, 30, 40), atol=6)


def test_large_pictures_are_read_up_to_a_limit(tmp_path):
    Image.new("L", (12000, 8000), 120).save(tmp_path / "scan.png")
    assert reading.read_pixels(tmp_path / "scan.png").shape == (8000, 12000, 3)
    with pytest.raises(
        InputError, match=r"12000 x 8000 pixels \(96\.0 million\), .*--max_megapixels=50; raise the limit"
    ):
        reading.read_pixels(tmp_path / "scan.png", DataSettings.of(max_megapixels=50))


AWKWARD = ["a$b$c", 'quo"te', "new\nline", "部品", "x" * 251, os.fsdecode(b"gro\xdf"), "<script>", "100%", " space "]


def test_any_name_is_read_kept_drawn_and_written(tmp_path, recwarn):
    root = tmp_path / os.fsdecode(b"teile gr\xfcn $1")
    for index, name in enumerate(AWKWARD):
        noise(root / f"train/good/{name}.png", index)
        noise(root / f"test/{name}/{name}.png", 50 + index)
        noise(root / f"test/good/{name}.png", 80 + index)
        noise(root / f"ground_truth/{name}/{name}.png", index)
    run = tmp_path / os.fsdecode(b"l\xe4ufe") / "new\nrun$"
    config = TINY.replaced(data=str(root), epochs=1, steps_per_epoch=1)
    cutpaste_tf.train(config, run, checkpoint_minutes=5)
    cutpaste_tf.evaluate(run, root)
    written = (run / "eval/scores.csv").read_text(encoding="utf-8")
    assert "gro\\xdf" in written
    assert "部品" in written
    assert len(list((run / "eval/heatmaps").rglob("*.png"))) == 2 * len(AWKWARD)
    assert Config.read(run / "config.json").data.data == str(root)
    assert not [w for w in recwarn if "lyph" in str(w.message)]


def test_one_folder_has_many_names(tiny_run, category, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(category.parent)
    config = TINY.replaced(epochs=0)
    for name in ("category/", "./category", str(category)):
        cutpaste_tf.train(config.replaced(data=name), tmp_path / "run", checkpoint_minutes=5)
        assert "already complete" in capsys.readouterr().out
        cutpaste_tf.evaluate(tmp_path / "run", name)
    assert [path.name for path in (tmp_path / "run").glob("eval*")] == ["eval"]


def test_the_name_of_a_built_in_set_stays_a_name(tmp_path, monkeypatch):
    """Also where a folder of that name lies in the working directory, as it does once the set is drawn."""
    (tmp_path / "demo/gear").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    named = preparation.with_canonical_names(Config.of(data="demo/gear"))
    assert named.data.data == "demo/gear"
    named = preparation.with_canonical_names(Config.of(data="demo/", test_data="./demo"))
    assert named.data.data == named.data.test_data == str(tmp_path / "demo")


def test_data_that_have_moved_are_known_again(tiny_run, category, tmp_path, capsys):
    config = TINY.replaced(epochs=0)
    moved = category.rename(tmp_path / "moved")
    cutpaste_tf.train(config.replaced(data=str(moved)), tmp_path / "run", checkpoint_minutes=5)
    assert "already complete" in capsys.readouterr().out
    cutpaste_tf.evaluate(tmp_path / "run", moved, settings={"feature": "layer1"})
    assert (tmp_path / "run/eval_feature=layer1/metrics.json").is_file()
    noise(moved / "train/good/000.png", 1)
    with pytest.raises(InputError, match=r"holds a run with data=.*category \(now .*moved, different images\)"):
        cutpaste_tf.train(config.replaced(data=str(moved)), tmp_path / "run", checkpoint_minutes=5)
