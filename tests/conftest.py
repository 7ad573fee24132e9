"""Shared fixtures. One process imports TensorFlow once: that import is the slowest thing here."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_lines import command  # noqa: F401
from threadpoolctl import threadpool_limits

import cutpaste_tf
from benchmarks import toys
from benchmarks.toys import draw_category, write_image  # noqa: F401
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.detection import loading
from cutpaste_tf.images import reading
from cutpaste_tf.networks import build, weights
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import GOOD
from cutpaste_tf.training import checkpoint

# Two processes share two cores: threads that wait for each other would cost more than they gain, those of BLAS thirty
# times as much. TensorFlow, which is not loaded yet, and the processes that tests start read the variables.
for _name in ("TF_NUM_INTRAOP_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
threadpool_limits(1, user_api="blas")


toys.register_network()

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


def read_image(path, size):
    """One image, and what the file held."""
    examples = reading.read([reading.Item(path.name, path, (), reading.NORMAL, GOOD)], size)
    return examples.images[0], examples.note.partition("(1 ")[2].partition(")")[0]


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """A small category in MVTec layout: smooth normal images, anomalies with a bright square and a mask."""
    return draw_category(tmp_path / "category")


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
