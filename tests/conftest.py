"""Shared fixtures. One process imports TensorFlow once: that import is the slowest thing here."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cutpaste_tf  # noqa: F401  sets TensorFlow's environment before anything imports it
from cutpaste_tf import commands
from cutpaste_tf.config import Config

TINY = Config(
    image_size=32, batch_size=6, epochs=2, steps_per_epoch=3, scar_max_length=20, stem="imagenet", head_dims=(16, 8)
)
ROOT = Path(__file__).resolve().parent.parent


def write_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """A small category in MVTec layout: smooth normal images, anomalies with a bright square and a mask."""
    return draw_category(tmp_path / "category")


def draw_category(root: Path) -> Path:
    rng = np.random.default_rng(0)

    def picture() -> np.ndarray:
        coarse = rng.integers(60, 160, (4, 4, 3), np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC)).copy()

    for index in range(6):
        write_image(root / f"train/good/{index:03d}.png", picture())
    for index in range(3):
        write_image(root / f"test/good/{index:03d}.png", picture())
        bad, mask = picture(), np.zeros((40, 40), np.uint8)
        bad[10:20, 12:22] = 255
        mask[10:20, 12:22] = 255
        write_image(root / f"test/square/{index:03d}.png", bad)
        write_image(root / f"ground_truth/square/{index:03d}_mask.png", mask)
    return root


@pytest.fixture(scope="session")
def copied_run(tmp_path_factory):
    """Gives complete runs: a configuration is run once in a session, then copied, as if made of the given data."""
    made: dict[Config, Path] = {}

    def copy(config: Config, data: Path, target: Path) -> Path:
        if config not in made:
            folder = tmp_path_factory.mktemp("made")
            own = draw_category(folder / "category")
            made[config] = folder / "run"
            commands.train(dataclasses.replace(config, data=str(own)), made[config], own, checkpoint_minutes=5)
        shutil.copytree(made[config], target)
        for path in (target / "config.json", target / "detector/config.json"):
            path.write_text(dataclasses.replace(Config.read(path), data=str(data)).to_json())
        return target

    return copy


@pytest.fixture
def tiny_run(copied_run, category: Path, tmp_path: Path) -> Path:
    """A complete run that trained nothing."""
    return copied_run(dataclasses.replace(TINY, epochs=0), category, tmp_path / "run")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Real images and ImageNet weights, in a folder `shared` beside the checkout; skips where it is missing."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data in {folder}")
    return folder


class StoppedError(Exception):
    pass


def weights_after(config, category, folder, monkeypatch, stops=()):
    """Final backbone weights of a run that is stopped after the given steps and started again each time."""
    from cutpaste_tf import training  # loads TensorFlow

    kept = {}
    finish = training.finish

    def spy(feature, *arguments, **options):
        kept["feature"] = [np.asarray(w) for w in feature.weights]
        finish(feature, *arguments, **options)

    monkeypatch.setattr(training, "finish", spy)
    save = training.save_checkpoint
    for stop in stops:

        def save_then_stop(classifier, path, step, stop=stop):
            save(classifier, path, step)
            if step == stop:
                raise StoppedError

        monkeypatch.setattr(training, "save_checkpoint", save_then_stop)
        with pytest.raises(StoppedError):
            commands.train(config, folder, category, checkpoint_minutes=0)
    monkeypatch.setattr(training, "save_checkpoint", save)
    commands.train(config, folder, category, checkpoint_minutes=0)
    return kept["feature"]
