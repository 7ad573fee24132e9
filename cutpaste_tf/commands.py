"""What the command lines do: check everything that can be checked in seconds, then load TensorFlow and work.

Kept apart from the mains so that a test, or another program, can call it. This module must not
import TensorFlow at its top: bad input is refused before the seconds that takes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import datasets, embeddings, images, prepared, quiet_start, runs, synthetic, weights
from cutpaste_tf import density as densities
from cutpaste_tf.config import VIEWS, Config
from cutpaste_tf.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples, Item

_SHEET_ROWS = 5


class SyntheticOptions(NamedTuple):
    """What `eval_main.py --synthetic` asks for.

    Attributes:
        shape: one of `synthetic.SHAPES`.
        fill: one of `synthetic.FILLS`.
        images: folder of natural images; empty for scikit-learn's.
        seed: of the drawing.
    """

    shape: str
    fill: str
    images: str
    seed: int


def train(
    config: Config,
    output_dir: Path,
    location: str | Path,
    *,
    checkpoint_minutes: float,
    test_location: str | Path = "",
    tfds_data_dir: str = "",
) -> None:
    """Trains a run, or resumes it, or finds it complete.

    Args:
        config: the configuration.
        output_dir: the run's folder.
        location: what `config.data` stands for: a folder, or the name of a prepared set.
        checkpoint_minutes: time between checkpoints.
        test_location: what `config.test_data` stands for, to see that it is there.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.

    Raises:
        InputError: before any long work.
    """
    runs.check(output_dir, config)
    if test_location:
        datasets.list_test(test_location, tfds_data_dir=tfds_data_dir)
    if config.head_epochs and not config.weights:
        print("Warning: without --weights the frozen backbone keeps its random weights.")
    examples = _read_train(config, output_dir, location, tfds_data_dir)
    if config.density == "mixture" and config.mixture_components > len(examples.images):
        raise InputError(f"--mixture_components={config.mixture_components} is more than the training images.")
    if (config.is_efficientnet or config.feature != "pool") and not runs.is_complete(output_dir):
        with quiet_start():
            from cutpaste_tf import training

        training.check(config)
    runs.open_run(output_dir, config, examples.digest)
    with runs.locked(output_dir):
        print(f"Training on {config.data}: {examples.note}.")
        if len(examples.images) < 20:
            print(f"Warning: {len(examples.images)} training images are few; expect a poor density.")
        if runs.is_complete(output_dir):
            print(f"The run in {output_dir} is complete already.")
        else:
            with quiet_start():
                from cutpaste_tf import training

            training.train(config, examples, output_dir, checkpoint_minutes=checkpoint_minutes, report=_say)
    print(f"Detector: {output_dir}/detector/   Next: python eval_main.py --run_dir={output_dir}")


def show_augmentations(config: Config, output_dir: Path, location: str | Path, *, tfds_data_dir: str = "") -> None:
    """Writes a sheet of every task's augmentations of a few training images; trains nothing.

    Arguments and errors as `train`. The sheet is OUTPUT_DIR/proxy_tasks.png.
    """
    saliency_weights = None
    if config.saliency_weights or (config.weights and not config.is_efficientnet):
        saliency_weights = weights.read_saliency_network(config)
    else:
        print("Without cutswap, whose saliency needs --saliency_weights.")
    examples = _read_train(config, output_dir, location, tfds_data_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    with quiet_start():
        from cutpaste_tf import pipeline, plots, saliency

    rows = np.linspace(0, len(examples.images) - 1, min(_SHEET_ROWS, len(examples.images))).astype(int)
    sources = np.array(examples.images[rows])
    columns = {"source": sources.astype(np.float32) / 255}
    for task in VIEWS:
        if task == "cutswap" and saliency_weights is None:
            continue
        shown = dataclasses.replace(config, proxy_task=task, batch_size=0)
        marked = saliency.mark(sources, saliency_weights) if task == "cutswap" else sources
        views = pipeline.augmentations(marked, shown)
        columns |= {f"{task}\n{name}": pictures for name, pictures in views.items()}
    plots.save_sheet(output_dir / "proxy_tasks.png", columns)
    print(f"Sheet: {output_dir}/proxy_tasks.png")


def _read_train(config: Config, output_dir: Path, location: str | Path, tfds_data_dir: str) -> Examples:
    """The training images, after every check that does not need them."""
    if config.weights and config.is_efficientnet:
        if config.weights != "imagenet":
            weights.read_keras_weights(config.weights)
    elif config.weights:
        weights.read_resnet18(Path(config.weights).expanduser(), config.resolved_stem)
    if config.saliency_weights or config.proxy_task == "cutswap":
        weights.read_saliency_network(config)
    root = Path(location).expanduser()
    places = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
    if root.is_dir() and any(output_dir.resolve().is_relative_to(place.resolve()) for place in places):
        raise InputError(f"--output_dir={output_dir} lies among the images of {location}; name another folder.")
    return datasets.read_train(location, config.image_size, tfds_data_dir=tfds_data_dir)


def evaluate(
    run_dir: Path,
    data: str,
    location: str | Path,
    *,
    train_location: str | Path = "",
    settings: Mapping[str, Any] | None = None,
    synthetic_options: SyntheticOptions | None = None,
    tfds_data_dir: str = "",
) -> None:
    """Scores test images with the run in `run_dir`.

    Args:
        run_dir: the folder of a complete run.
        data: name of the test images, for the record.
        location: what `data` stands for.
        train_location: what the run's `config.data` stands for, if that is no folder; read only for a
            feature other than the run's.
        settings: values for `config.EVALUATION_SETTINGS` in place of the run's; the density is then fitted anew.
        synthetic_options: paste synthetic anomalies onto the normal test images and score those.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.

    Raises:
        InputError: before any long work.
    """
    saved = Config.read(run_dir / "config.json")
    if not runs.is_complete(run_dir):
        raise InputError(f"The run in {run_dir} is not complete; run its train_main.py command again to finish it.")
    config = dataclasses.replace(saved, **(settings or {}))
    folder = runs.EVAL + "".join(f"_{name}={value}" for name, value in (settings or {}).items())
    items = datasets.list_test(location, tfds_data_dir=tfds_data_dir)
    if data == saved.data and all(item.label == images.UNKNOWN for item in items):
        raise InputError(f"{data} holds the training images and no test images; name those by --data.")
    if synthetic_options:
        kind, fill = synthetic_options.shape, synthetic_options.fill
        folder += f"_{kind}_{fill}" + (f"_{synthetic_options.seed}" if synthetic_options.seed else "")
        data = f"{data} with synthetic anomalies ({kind}, {fill})"
        made = run_dir / f"{folder}_images"
        examples = _with_synthetic(images.read(items, config.image_size), synthetic_options, made, tfds_data_dir)
        print(f"Scoring {data}: {examples.note}.")
        test = _embed(run_dir, config, examples)
    else:
        print(f"Scoring {data}: {len(items)} images.")
        test = _kept(run_dir, config, items)
    if config.feature == saved.feature:
        train = embeddings.read(run_dir / runs.TRAIN_EMBEDDINGS)
    else:
        train_items = datasets.list_train(train_location or config.data, tfds_data_dir=tfds_data_dir)
        train = _kept(run_dir, config, train_items, training=True)
    density = densities.build(config)
    if config == saved:
        with np.load(run_dir / runs.DETECTOR / runs.DENSITY) as arrays:
            density.restore(dict(arrays))
    else:
        density.fit(train.features)
    from cutpaste_tf import evaluation  # matplotlib is slow to load, too

    record = synthetic_options._asdict() if synthetic_options else None
    evaluation.evaluate(
        run_dir / folder, data, config, density=density, train=train, test=test, synthetic=record, report=_say
    )


def _kept(run_dir: Path, config: Config, items: list[Item], *, training: bool = False) -> Embeddings:
    """The embeddings of images, computed unless the run's folder keeps them."""

    def make() -> Embeddings:
        examples = images.read(items, config.image_size)
        if training and not runs.has_digest(run_dir, examples.digest):
            raise InputError(f"The training images have changed since the run in {run_dir} was made; train again.")
        print(f"Computing {config.feature} of {examples.note}.", flush=True)
        return _embed(run_dir, config, examples)

    model = run_dir / runs.DETECTOR / runs.MODEL
    key = embeddings.fingerprint(model, config.feature, items, config.image_size)
    return embeddings.kept(run_dir / runs.EMBEDDINGS / f"{key[:32]}.npz", make)


def _embed(run_dir: Path, config: Config, examples: Examples) -> Embeddings:
    with quiet_start():
        from cutpaste_tf import detector

    loaded = detector.Detector.load(run_dir / runs.DETECTOR)
    return detector.embed_examples(loaded.feature_named(config.feature), examples)


def _with_synthetic(examples: Examples, options: SyntheticOptions, folder: Path, tfds_data_dir: str) -> Examples:
    """Examples with synthetic anomalies, written to a folder as well."""
    natural, digits = [], np.empty(0)
    if options.fill == "image":
        natural, note = synthetic.read_natural(options.images)
        print(f"Filling from {note}.")
    if options.shape == "mnist":
        digits, note = synthetic.read_digits(prepared.data_dir(tfds_data_dir))
        print(f"Digits: {note}.")
    made = synthetic.make(examples, options.shape, options.fill, seed=options.seed, natural=natural, digits=digits)
    with runs.whole_folder(folder) as partial:
        synthetic.save(made, partial)
    print(f"Images with synthetic anomalies: {folder}/")
    return made


def _say(line: str) -> None:
    print(line, flush=True)
