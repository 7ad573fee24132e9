"""Training: the function that the command and programs call."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import numpy as np

from cutpaste_tf import devices, environment, files, memory, runs
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras
from cutpaste_tf.detection import calibration, embeddings, loading
from cutpaste_tf.detection.calibration_images import CalibrationImages
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.network import Network
from cutpaste_tf.images import folders, sources
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.networks import build
from cutpaste_tf.networks.build import Networks
from cutpaste_tf.progress import Report, say
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting, more_images, preparation, tensorboard
from cutpaste_tf.training.execution import Execution

# Bytes that a step takes besides the activations: measured with ResNet-18 (docs/reliability.md).
_STEP = 350e6


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
    """Trains a run, or resumes it; does nothing if it is complete.

    Args:
        config: the configuration; it is saved as given, along with the values that were filled in.
        output_dir: the run's folder; created if missing.
        checkpoint_minutes: time between checkpoints.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
        device_count: number of devices that share each batch, or `auto` for all, see devices.py.
        execution: how steps are executed.

    Raises:
        InputError: before any long work.
    """
    environment.check()
    output_dir, given = Path(output_dir), preparation.with_canonical_names(config)
    given = preparation.with_size(given, output_dir, tfds_data_dir, report)
    given = preparation.with_begun_mode(given, output_dir)
    config = given.resolved()
    execution.check(config.schedule)
    items = preparation.checked_items(given, output_dir, tfds_data_dir, report)
    with devices.used(device_count, batch_size=config.schedule.batch_size), contextlib.ExitStack() as stack:
        execution.check_devices()
        examples = preparation.read(items, config, report)
        given = preparation.with_density_mode(given, examples.images, report)
        config = given.resolved()
        validation = preparation.validation(config, examples, report)
        added = len(sources.list_added(config.data))
        more_images.check(config, TrainingData.of(examples), added, report)
        nets = more_images.network_of(config) or _checked_networks(config, output_dir)
        root = sources.folder(config.data.data)  # before the data get their original name, which may no longer exist
        stack.enter_context(files.locked(output_dir))
        given = runs.open_run(output_dir, given, TrainingData.of(examples, config.data.reading.region))
        report(f"Training on {', '.join([given.data.data, *given.data.add_normal])}: {examples.note}.")
        for line in preparation.notes(root, items, given.resolved(), examples):
            report(f"Note: {line}")
        if len(examples.images) < 20:
            report(f"Warning: only {len(examples.images)} training images; expect a poor density.")
        if runs.is_complete(output_dir):
            report(f"The run in {output_dir} is already complete.")
        else:
            run = _Run(given, output_dir, checkpoint_minutes, execution, report)
            run.carry_out(nets or fitting.initial_networks(given.resolved()), examples, added, validation)
    report(f"Detector: {output_dir}/detector/   Next: {_next_command(config, output_dir, examples)}")


def _checked_networks(config: Config, output_dir: Path) -> Networks | None:
    """The networks if they are needed to check that the feature exists; otherwise None."""
    is_plain = config.network.backbone == "resnet18" and config.features.feature == "pool"
    if is_plain or runs.is_complete(output_dir):
        return None
    nets = fitting.initial_networks(config)
    build.feature_model(nets.feature, config.features.feature)
    return nets


class _Run:
    """A run in a folder that `runs.open_run` has claimed; if it has a checkpoint, the run is resumed."""

    def __init__(self, given: Config, folder: Path, checkpoint_minutes: float, execution: Execution, report: Report):
        self._given, self._config, self._folder = given, given.resolved(), folder
        self._checkpoint_minutes, self._execution, self._report = checkpoint_minutes, execution, report

    def carry_out(
        self, nets: Networks | Network, examples: Examples, added: int, validation: CalibrationImages | None
    ) -> None:
        """Trains the networks unless a finished one is given, fits the density, and writes the detector.

        Args:
            nets: the networks.
            examples: the images.
            added: how many of them, the last ones, only the density is fitted to.
            validation: other normal images, which set the threshold; None: `examples` do.
        """
        self._report(f"Computing with {keras.backend.backend()} on {', '.join(devices.names())}.")
        if not (self._folder / tensorboard.FOLDER).exists():
            tensorboard.write_settings(self._folder, self._config.flat())
        if isinstance(nets, Network):
            more_images.copy_history(self._config, self._folder)
            self._fit_density(nets.model, examples, validation)
        else:
            self._train(nets, examples.images[: len(examples.images) - added])
            self._fit_density(nets.feature, examples, validation)

    def _train(self, nets: Networks, normal: np.ndarray) -> None:
        """Trains the networks on normal images."""
        if forecast := self._forecast(nets):
            self._report(forecast)
        images = fitting.marked(normal, self._config, self._report)
        if self._config.schedule.phases:
            if not (self._folder / "augmentations.png").exists():
                self._show_views(images)
            fitting.fit(
                nets,
                images,
                self._config,
                self._folder,
                checkpoint_minutes=self._checkpoint_minutes,
                execution=self._execution,
                report=self._report,
            )
        fitting.calibrate_batch_norm(nets, normal, self._config, self._report)

    def _fit_density(self, network: keras.Model, examples: Examples, validation: CalibrationImages | None) -> None:
        """Fits the density of a trained network's features, and writes the detector."""
        self._report(f"Fitting the density to {len(examples.images)} training images.")
        data = TrainingData.read(self._folder)
        detector = loading.make(network, self._given, data)
        groups = calibration.groups(data, self._config.density.group_by)
        detector.fit(examples.images, groups, report=self._report)
        described = embeddings.describe(detector.training_features_, ImageSet.of(examples), trained=True)
        embeddings.write(self._folder / runs.TRAIN_EMBEDDINGS, described)
        self._write_suspects(detector)
        if validation:
            validation.calibrate(detector, self._report)
        detector.save(self._folder / runs.DETECTOR)
        (self._folder / runs.CHECKPOINT).unlink(missing_ok=True)

    def _forecast(self, nets: Networks) -> str:
        """What training on CPUs needs of memory, and what is free; empty if unknown, or if nothing is trained."""
        free, schedule = memory.free(), self._config.schedule
        if not schedule.phases or free is None or not all(name.startswith("cpu") for name in devices.names()):
            return ""
        needed = _STEP + build.activation_bytes(nets.backbone, schedule.batch_size, self._config.view_size)
        text = f"Training needs about {memory.shown(needed)} of memory; {memory.shown(free)} are free."
        return text if needed <= free else f"Warning: {text} Lower --batch_size, or --image_size."

    def _write_suspects(self, detector: Detector) -> None:
        """Lists the training images by the scores they get when the detector does not know them, highest first."""
        held_out, paths = detector.held_out_, [*detector.data.images]
        if held_out is None or not len(held_out):  # too few images
            return
        scores, _ = detector.reduced(held_out, detector.held_out_regions_)
        if len(scores) != len(paths):  # too many images for their patches to be held out
            return
        order = np.argsort(-scores, kind="stable")
        rows = [{"path": folders.printable(paths[index]), "score": f"{scores[index]:.6f}"} for index in order]
        files.write_csv(self._folder / runs.SUSPECTS, rows)
        first = ", ".join(row["path"] for row in rows[:3])
        self._report(f"Least like the others: {first}; all: {self._folder / runs.SUSPECTS}")

    def _show_views(self, images: np.ndarray) -> None:
        """Draws the network's first views from a separate stream, whose memory is freed before training."""
        from cutpaste_tf.pictures import plots  # matplotlib is slow to load

        settings, schedule, seed = self._config.augmentation, self._config.schedule, self._config.seed
        stream = pipeline.stream(images, settings, batch_size=schedule.batch_size, seed=seed)
        views, labels = (array.numpy() for array in next(iter(stream)))
        views = views.astype(np.float32) / 255 if settings.uint8_views else views
        plots.save_augmentations(self._folder / "augmentations.png", views, labels, settings.views)
        tensorboard.write_views(self._folder, views, labels, settings.views)


def _next_command(config: Config, run_dir: Path, examples: Examples) -> str:
    """The next command for a run: score its test images, or other photographs if it has none."""
    run = shlex.quote(str(run_dir))
    if preparation.has_test_images(config, set(examples.paths)):
        return f"python eval_main.py --run_dir={run}"
    return (
        f"python predict_main.py --detector={run} --images=FOLDER   or, if FOLDER holds test images: "
        f"python eval_main.py --run_dir={run} --data=FOLDER"
    )
