"""Training, as its command line and a program call it: first everything that can be checked in seconds."""

import collections
import contextlib
import shlex
from collections.abc import Collection
from pathlib import Path

import numpy as np

from cutpaste_tf import devices, files, processes, runs, surroundings
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras
from cutpaste_tf.detection import calibration, detector, embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import layouts, reading, sources
from cutpaste_tf.images.reading import Examples, Item
from cutpaste_tf.networks import build, saliency, weights
from cutpaste_tf.networks.backbones import BACKBONES
from cutpaste_tf.networks.build import Networks
from cutpaste_tf.progress import Report, say
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting, tensorboard
from cutpaste_tf.training.execution import Execution


def train(
    config: Config,
    output_dir: str | Path,
    *,
    checkpoint_minutes: float = 5.0,
    tfds_data_dir: str = "",
    device_count: str = devices.AUTO,
    execution: Execution = Execution(),
    report: Report = say,
) -> None:
    """Trains a run, or resumes it, or finds it complete.

    Args:
        config: the configuration; it is saved as it is given, with what is filled in beside it.
        output_dir: the run's folder, made where it is missing.
        checkpoint_minutes: time between checkpoints.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
        device_count: number of devices that share each batch, or `auto` for all that there are, see devices.py.
        execution: how steps are carried out.
        report: takes a line for the user.

    Raises:
        InputError: before any long work.
    """
    surroundings.check()
    output_dir, given = Path(output_dir), _with_canonical_names(config)
    config = given.resolved()
    execution.check(config.schedule)
    with processes.together():
        items = _checked_items(config, output_dir, tfds_data_dir, report)
    schedule, classes = config.schedule, len(config.augmentation.views)
    sharing = {"batch_size": schedule.batch_size, "images_per_step": schedule.batch_size // classes}
    with devices.used(device_count, **sharing), contextlib.ExitStack() as held:
        execution.check_devices()
        with processes.together():
            examples = reading.read(items, config.data.image_size, config.data, report=report)
            if config.density.density == "mixture" and config.density.mixture_components > len(examples.images):
                raise InputError(
                    f"--mixture_components={config.density.mixture_components} is more than the training images."
                )
            calibration.groups(examples.paths, config.density.group_by)
            calibration.check(config.decision, len(examples.images))
        processes.agree("training images", (examples.paths, examples.hashes))
        nets = None
        is_plain = config.network.backbone == "resnet18" and config.features.feature == "pool"
        if not is_plain and not runs.is_complete(output_dir):  # only a network can tell whether the feature is its
            nets = fitting.initial_networks(config)
            build.feature_model(nets.feature, config.features.feature)
        root = sources.folder(config.data.data)  # data keep their first name, which need not lead there any more
        with processes.together():
            held.enter_context(files.locked(output_dir))
            given = runs.open_run(output_dir, given, TrainingData.of(examples))
            config = given.resolved()
        report(f"Training on {config.data.data}: {examples.note}.")
        _tell_of_folders(root, items, config, examples, report)
        if len(examples.images) < 20:
            report(f"Warning: {len(examples.images)} training images are few; expect a poor density.")
        if runs.is_complete(output_dir):
            report(f"The run in {output_dir} is complete already.")
        else:
            nets = nets or fitting.initial_networks(config)
            _carry_out(nets, given, examples, output_dir, checkpoint_minutes, execution, report)
    report(f"Detector: {output_dir}/detector/   Next: python eval_main.py --run_dir={shlex.quote(str(output_dir))}")


def _checked_items(config: Config, output_dir: Path, tfds_data_dir: str, report: Report) -> list[Item]:
    """The training images, after everything was checked that takes no images and no TensorFlow."""
    runs.check(output_dir, config)
    files.check_writable(output_dir)
    begun = (output_dir / "config.json").is_file()
    trained = TrainingData.read(output_dir).images if begun else None
    if config.schedule.head_epochs and not config.network.weights:
        report("Warning: without --weights the frozen backbone keeps its random weights.")
    check_weights(config)
    items = list_train(config, output_dir, tfds_data_dir, trained)
    if test_data := config.data.test_data:
        tested = sources.list_test(test_data, config.data, tfds_data_dir=tfds_data_dir)
        sources.refuse_overlap(items, tested, test_data)
    return items


def _carry_out(
    nets: Networks,
    config: Config,
    examples: Examples,
    folder: Path,
    checkpoint_minutes: float,
    execution: Execution,
    report: Report,
) -> None:
    """Carries a run to its end in a folder claimed by `runs.open_run`; a checkpoint in it is resumed."""
    given, config = config, config.resolved()
    report(f"Computing with {keras.backend.backend()} on {', '.join(devices.names())}.")
    images = examples.images
    if config.augmentation.needs_saliency:
        report("Finding salient pixels.")
        arrays = weights.read_saliency_network(config.saliency_weights)
        images = saliency.mark(images, arrays, report=report)
    if not (folder / tensorboard.FOLDER).exists():
        tensorboard.write_settings(folder, config.flat())
    if config.schedule.phases:
        if not (folder / "augmentations.png").exists():
            _show_views(images, config, folder)
        fitting.fit(
            nets, images, config, folder, checkpoint_minutes=checkpoint_minutes, execution=execution, report=report
        )
    report(f"Fitting the density to {len(examples.images)} training images.")
    found, described = detector.fit(nets.feature, examples, given, report=report)
    embeddings.write(folder / runs.TRAIN_EMBEDDINGS, described)
    found.save(folder / runs.DETECTOR, TrainingData.read(folder))
    (folder / runs.CHECKPOINT).unlink(missing_ok=True)


def _show_views(images: np.ndarray, config: Config, folder: Path) -> None:
    """Shows what the network will be shown first; what makes it goes with its memory before training begins."""
    from cutpaste_tf.pictures import plots  # matplotlib is slow to load

    stream = pipeline.stream(images, config.augmentation, batch_size=config.schedule.batch_size, seed=config.seed)
    views, labels = (one.numpy() for one in next(iter(stream)))
    views = views.astype(np.float32) / 255 if config.augmentation.uint8_views else views
    plots.save_augmentations(folder / "augmentations.png", views, labels, config.augmentation.views)
    tensorboard.write_views(folder, views, labels, config.augmentation.views)


def _with_canonical_names(config: Config) -> Config:
    """One spelling of folders and sets."""
    data = config.data
    return config.replaced(data=sources.canonical(data.data), test_data=sources.canonical(data.test_data))


def check_weights(config: Config) -> None:
    """Sees whether files of weights are there and fit.

    Raises:
        InputError: they do not.
    """
    network, augmentation = config.network, config.augmentation
    if network.weights:
        BACKBONES[network.backbone].check_weights(network.weights, network.stem)
    if augmentation.saliency_weights or augmentation.needs_saliency:
        weights.read_saliency_network(config.saliency_weights)


def list_train(config: Config, output_dir: Path, tfds_data_dir: str, trained: Collection[str] | None) -> list[Item]:
    """The training images; `trained` as in `layouts.list_train`."""
    root = sources.folder(config.data.data)
    places = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
    if root.is_dir() and any(output_dir.resolve().is_relative_to(place.resolve()) for place in places):
        raise InputError(f"--output_dir={output_dir} lies among the images of {config.data.data}; name another folder.")
    return sources.list_train(config.data.data, config.data, trained=trained, tfds_data_dir=tfds_data_dir)


def _tell_of_folders(root: Path, items: list[Item], config: Config, examples: Examples, report: Report) -> None:
    """Says which folders are learnt from, what is held out, and what is not read."""
    for line in (*layouts.unread(root, config.data, testing=False), *examples.notices):
        report(f"Note: {line}")
    counts = collections.Counter(str(Path(item.path).parent) for item in items)
    if len(counts) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common(8))
        report(f"Note: all of these folders are learnt as normal: {listed}.")
    held_out = layouts.held_out(root, config.data, examples.paths)
    if held_out:
        normal, part = config.data.reading.normal_name, config.data.test_split
        report(
            f"Note: {held_out} of {held_out + len(items)} images of {normal}/ are held out for testing "
            f"(--test_split={part:g})."
        )
