"""Shared fixtures. One process imports TensorFlow once: that import is the slowest thing here."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_lines import command  # noqa: F401
from PIL import Image
from threadpoolctl import threadpool_limits

import cutpaste_tf
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras
from cutpaste_tf.detection import loading
from cutpaste_tf.images import reading
from cutpaste_tf.networks import build, weights
from cutpaste_tf.networks.backbones import BACKBONES, Backbone
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import GOOD
from cutpaste_tf.settings.network import BACKBONE_FACTS, BackboneFacts
from cutpaste_tf.training import checkpoint

# Two processes share two cores: threads that wait for each other would cost more than they gain, those of BLAS thirty
# times as much. TensorFlow, which is not loaded yet, and the processes that tests start read the variables.
for _name in ("TF_NUM_INTRAOP_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
threadpool_limits(1, user_api="blas")


def _toy(stem):
    """A network of two convolutions, for what does not depend on the network: a step of it is traced in no time."""
    layers, image = keras.layers, keras.Input((None, None, 3))
    x = image
    names = [(8, "conv1", "bn1", "layer1_1"), (16, "layer2_0_conv1", "layer3_1", "layer4_1")]  # as a ResNet's
    for index, (width, conv, norm, relu) in enumerate(names, 1):
        x = layers.ZeroPadding2D(1, name=f"conv{index}_pad")(x)
        x = layers.Conv2D(width, 3, strides=2, use_bias=False, name=conv)(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)
        x = layers.ReLU(name=relu)(x)
    return keras.Model(image, x, name="toy")


_FEATURES = {"layer1": "layer1_1", "layer2": "layer2_0_conv1", "layer3": "layer3_1", "layer4": "layer4_1"}
# Two entries, as CONTRIBUTING.md says.
BACKBONE_FACTS["toy"] = BackboneFacts(dilates=True)
BACKBONES["toy"] = Backbone(build=_toy, features=lambda backbone: _FEATURES)

TINY = Config.of(
    backbone="toy",
    image_size=32,
    batch_size=6,
    epochs=2,
    steps_per_epoch=3,
    scar_max_length=20,
    stem="imagenet",
    head_dims=(16, 8),
)
RESNET = TINY.replaced(backbone="resnet18")
ROOT = Path(__file__).resolve().parent.parent


def write_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def read_image(path, size):
    """One image, and what the file held."""
    examples = reading.read([reading.Item(path.name, path, (), reading.NORMAL, GOOD)], size)
    return examples.images[0], examples.note.partition("(1 ")[2].partition(")")[0]


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


def networks_of(config):
    """The networks of a configuration."""
    config = config.resolved()
    return build.build(config.network, len(config.augmentation.views))


def stream_of(images, config, **options):
    """The stream of batches of a configuration."""
    config = config.resolved()
    return pipeline.stream(
        images, config.augmentation, batch_size=config.schedule.batch_size, seed=config.seed, **options
    )


@pytest.fixture(scope="session")
def imagenet_like(tmp_path_factory):
    """A ResNet-18 with classifier as a file, of random weights that keep the signal alive."""
    rng = np.random.default_rng(0)
    arrays = {"fc.weight": rng.normal(0, 0.1, (1000, 512)), "fc.bias": np.zeros(1000)}
    for name, shape in weights.resnet18_shapes("imagenet").items():
        arrays[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape) if len(shape) == 4 else np.ones(shape)
    path = tmp_path_factory.mktemp("weights") / "resnet18.npz"
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})
    return path


@pytest.fixture(scope="session")
def copied_run(tmp_path_factory):
    """Gives complete runs: a configuration is run once in a session, then copied, as if made of the given data."""
    run_dirs: dict[Config, Path] = {}

    def copy(config: Config, data: Path, target: Path) -> Path:
        if config not in run_dirs:
            folder = tmp_path_factory.mktemp("made")
            data_dir = draw_category(folder / "category")
            run_dirs[config] = folder / "run"
            cutpaste_tf.train(config.replaced(data=str(data_dir)), run_dirs[config], checkpoint_minutes=5)
        shutil.copytree(run_dirs[config], target)
        for path in (target / "config.json", target / "detector/config.json"):
            path.write_text(Config.read(path).replaced(data=str(data)).to_json())
        return target

    return copy


@pytest.fixture
def tiny_run(copied_run, category: Path, tmp_path: Path) -> Path:
    """A complete run that trained nothing."""
    return copied_run(TINY.replaced(epochs=0), category, tmp_path / "run")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Real images and ImageNet weights, in a folder `shared` beside the checkout; skips where it is missing."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data in {folder}")
    return folder


def logged(folder):
    """The rows of a run's train_log.csv."""
    with (folder / "train_log.csv").open() as file:
        return list(csv.DictReader(file))


def logged_steps(folder):
    return [int(row["step"]) for row in logged(folder)]


class StoppedError(Exception):
    pass


def weights_after(config, category, folder, monkeypatch, stops=(), **options):
    """Final backbone weights of a run that is stopped after the given steps and started again each time.

    A stop may be (step, options) where it is carried out by others than the rest.
    """

    captured, config = {}, config.replaced(data=str(category))
    make, save = loading.make, checkpoint.save

    def spy(feature, *arguments, **options):
        captured["feature"] = [np.asarray(w) for w in feature.weights]
        return make(feature, *arguments, **options)

    monkeypatch.setattr(loading, "make", spy)
    for given in stops:
        stop, settings = given if isinstance(given, tuple) else (given, options)

        def save_then_stop(classifier, path, step, stop=stop):
            save(classifier, path, step)
            if step == stop:
                raise StoppedError

        monkeypatch.setattr(checkpoint, "save", save_then_stop)
        with pytest.raises(StoppedError):
            cutpaste_tf.train(config, folder, checkpoint_minutes=0, **settings)
    monkeypatch.setattr(checkpoint, "save", save)
    cutpaste_tf.train(config, folder, checkpoint_minutes=0, **options)
    monkeypatch.setattr(loading, "make", make)
    return captured["feature"]
