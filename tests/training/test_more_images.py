"""--add_normal: a run whose density is fitted to more normal images, with a finished run's network."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY, command, draw_category, write_image

import cutpaste_tf
from cutpaste_tf.detection import loading
from cutpaste_tf.detection.network import Network
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading, sources
from cutpaste_tf.progress import no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import train

PATCH = {"image_size": 64, "patch_size": 32, "extract_size": 32, "stride": 8, "dense": "fast", "feature": "layer2"}
KINDS = {
    "image": {"calibrate_batch_norm": True},
    "shared": {**PATCH, "density_mode": "shared"},
    "per_location": {**PATCH, "density_mode": "per_location"},
    "nearest": {**PATCH, "density": "nearest", "coreset": 40},
    "combination": {**PATCH, "density_mode": "shared", "combine": "feature=layer1 density=kde"},
}


def _picture(seed):
    coarse = np.random.default_rng(seed).integers(60, 160, (4, 4, 3), np.uint8)
    return np.repeat(np.repeat(coarse, 12, axis=0), 12, axis=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A category, and folders of confirmed images."""
    root = tmp_path_factory.mktemp("data")
    draw_category(root / "category")
    for index in range(5):
        write_image(root / f"confirmed/lot{index // 3}/{index}.png", _picture(100 + index))
    write_image(root / "more/0.png", _picture(200))
    return root


@pytest.fixture(scope="module")
def runs_of(data, tmp_path_factory):
    """Kind -> a finished run, which is trained, and the run with the images of `confirmed` besides."""
    made = {}

    def of(kind):
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            config = TINY.replaced(data=str(data / "category"), epochs=1, **KINDS[kind])
            cutpaste_tf.train(config, root / "run", report=no_report)
            before = _contents(root / "run")
            given = Config.read(root / "run/config.json")
            added = given.replaced(add_normal=(str(data / "confirmed"),), network_of=str(root / "run"))
            lines = []
            cutpaste_tf.train(added, root / "more", report=lines.append)
            assert "Adding 5 normal images to 6, for the density only." in lines
            assert _contents(root / "run") == before
            made[kind] = root / "run", root / "more"
        return made[kind]

    return of


def _contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _union(data, detector):
    """Pixels of the training images and of those that are added, in their order."""
    items = [*sources.list_train(data / "category"), *sources.list_train(data / "confirmed")]
    return reading.read(items, detector.size, detector.how_read)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_is_that_of_all_images_with_the_same_network(kind, runs_of, data):
    run, more = runs_of(kind)
    detector, network = loading.load(more), Network(run / "detector/model.keras").model
    for ours, theirs in zip(
        Network(more / "detector/model.keras").model.get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    examples = _union(data, detector)
    fresh = loading.make(network, detector.given, detector.data).fit(examples.images)
    for ours, theirs in zip(_singles(detector), _singles(fresh), strict=True):
        expected = theirs.density.to_arrays()
        for name, array in ours.density.to_arrays().items():
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-8)
    images = sources.read_test(data / "category", detector.size).images
    np.testing.assert_allclose(detector.score(images).scores, fresh.score(images).scores, rtol=1e-8)
    assert len(detector.calibration.scores) == 11
    for ours, theirs in zip(detector.calibration, fresh.calibration, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    before = loading.load(run)
    assert np.abs(before.score(images).scores / detector.score(images).scores - 1).max() > 0.01


def _singles(detector):
    return getattr(detector, "parts", [detector])


@pytest.mark.parametrize("kind", ["image", "per_location"])
def test_it_is_a_run_like_any_other(kind, runs_of, data, tmp_path):
    run, more = runs_of(kind)
    trained = json.loads((more / "training_data.json").read_text())["images"]
    assert [*trained][6:] == [str(data / f"confirmed/lot{index // 3}/{index}.png") for index in range(5)]
    assert (more / "train_log.csv").read_bytes() == (run / "train_log.csv").read_bytes()
    assert (more / "suspects.csv").read_text().count(str(data / "confirmed")) == 5
    result = cutpaste_tf.evaluate(
        more, settings={"density_mode": "shared"} if kind != "image" else None, report=no_report
    )
    assert result["image_auroc"] is not None
    cutpaste_tf.evaluate(more, settings={"feature": "layer1"}, report=no_report)  # reads the training images again
    command("predict_main.py", f"--detector={more}", f"--images={data}/more")
    rate = cutpaste_tf.ExportOptions(false_alarm_rate=0.3)
    assert cutpaste_tf.export(more, tmp_path / "export", options=rate, report=no_report)["calibration_images"] == 11
    config = Config.read(more / "config.json")
    assert config.data.add_normal == (str(data / "confirmed"),)
    train.train(config, tmp_path / "again", report=no_report)
    assert Config.read(tmp_path / "again/config.json") == config
    images = sources.read_test(data / "category", config.data.size if kind != "image" else 32).images
    np.testing.assert_array_equal(*(loading.load(place).score(images).scores for place in (more, tmp_path / "again")))


def test_a_new_network_does_not_see_the_images_that_are_added(runs_of, data, tmp_path):
    """Without a finished run the same settings train the same network."""
    _, more = runs_of("image")
    config = Config.read(more / "config.json").replaced(network_of="")
    train.train(config, tmp_path / "run", report=no_report)
    images = sources.read_test(data / "category", 32).images
    np.testing.assert_array_equal(*(loading.load(place).score(images).scores for place in (more, tmp_path / "run")))


def test_the_command_adds_to_what_was_added_before(runs_of, data, tmp_path):
    _, more = runs_of("image")
    command("train_main.py", f"--config={more}", f"--add_normal={data}/more/", f"--output_dir={tmp_path}/run")
    config = Config.read(tmp_path / "run/config.json")
    assert config.data.add_normal == (str(data / "confirmed"), str(data / "more"))
    assert config.network.network_of == str(more)
    assert len(TrainingData.read(tmp_path / "run/detector").images) == 12
    command("train_main.py", f"--config={tmp_path}/run", f"--output_dir={tmp_path}/again")
    assert Config.read(tmp_path / "again/config.json") == config


def test_old_images_are_read_as_before_however_bright_the_new_ones_are(data, tmp_path):
    """A white that the new images decide would change the pixels that the network has learnt."""
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 1000, (40, 40)).astype(np.uint16)
        write_image(tmp_path / f"deep/{index}.png", pixels)
    write_image(tmp_path / "bright/0.png", np.full((40, 40), 3000, np.uint16))
    config = TINY.replaced(data=str(tmp_path / "deep"), epochs=0)
    cutpaste_tf.train(config, tmp_path / "run", report=no_report)
    added = config.replaced(add_normal=(str(tmp_path / "bright"),), network_of=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"bright/0.png .*1023"):
        cutpaste_tf.train(added, tmp_path / "more", report=no_report)


@pytest.fixture
def refused(runs_of, data, tmp_path):
    """Tries to add the images in a folder of `tmp_path`, with other settings; nothing is written."""
    run, _ = runs_of("image")
    config = Config.read(run / "config.json")

    def attempt(message, *, network_of=run, **settings):
        settings = {"add_normal": (str(tmp_path / "new"),), **settings}
        with pytest.raises(InputError, match=message) as raised:
            train.train(config.replaced(network_of=str(network_of), **settings), tmp_path / "more", report=no_report)
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "more/config.json").exists()

    return attempt


def test_folders_that_cannot_be_added_are_refused(refused, data, tmp_path):
    refused("--add_normal=.*new: .*new is not a folder")
    (tmp_path / "new").mkdir()
    refused("new holds no normal images")
    write_image(tmp_path / "new/NG/0.png", _picture(0))
    refused("NG has the name of a folder of images that are defective")
    shutil.rmtree(tmp_path / "new/NG")
    write_image(tmp_path / "new/0.png", _picture(0))
    refused("0.png was added before", add_normal=(str(tmp_path / "new"), str(tmp_path / "new/")))
    shutil.copy(data / "category/train/good/002.png", tmp_path / "new/known.png")
    refused("1 of 2 images have the same pixels as training images .*known.png = train/good/002.png")
    shutil.copy(data / "category/test/good/001.png", tmp_path / "new/known.png")
    refused("--add_normal: 1 of 2 images are copies of test images .*known.png = test/good/001.png")


def test_images_outside_the_region_do_not_fit(data, tmp_path):
    write_image(tmp_path / "region.png", np.full((40, 40), 255, np.uint8))
    config = TINY.replaced(data=str(data / "category"), epochs=0, region=str(tmp_path / "region.png"))
    cutpaste_tf.train(config, tmp_path / "run", report=no_report)
    write_image(tmp_path / "new/0.png", _picture(0)[:, :30])
    added = config.replaced(add_normal=(str(tmp_path / "new"),), network_of=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"40 x 40 pixels, but .*new/0.png has 30 x 48"):
        cutpaste_tf.train(added, tmp_path / "more", report=no_report)


def test_networks_that_cannot_be_used_are_refused(refused, runs_of, data, tmp_path):
    run, _ = runs_of("image")
    write_image(tmp_path / "new/0.png", _picture(0))
    refused("nowhere has no config.json|does not exist", network_of=tmp_path / "nowhere")
    (tmp_path / "begun").mkdir()
    shutil.copy(run / "config.json", tmp_path / "begun")
    refused("begun is not complete; run its train_main.py command again", network_of=tmp_path / "begun")
    rate = cutpaste_tf.ExportOptions(false_alarm_rate=0.3)
    cutpaste_tf.export(run, tmp_path / "export", options=rate, report=no_report)
    refused("export is an export, which has no network", network_of=tmp_path / "export")
    refused(r"was made with epochs=1 \(now 2\), seed=0 \(now 5\)", epochs=2, seed=5)
    shutil.copytree(data / "category", tmp_path / "category")
    write_image(tmp_path / "category/train/good/new.png", _picture(1))
    refused("The training images have changed since the run", data=str(tmp_path / "category"))
