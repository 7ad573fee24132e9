"""Fits the proxy task, then the density (Sections 2.1, 2.3, Appendix A.1); resumes where it stopped."""

import csv
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cutpaste_tf import density, detector, networks, pipeline, plots, runs, saliency, weights
from cutpaste_tf.config import Config
from cutpaste_tf.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples, thumbnails

Report = Callable[[str], None]
_THUMBNAILS = 2000  # as many training images at most tell the evaluation what raw pixels would do


def train(config: Config, examples: Examples, folder: Path, *, checkpoint_minutes: float, report: Report) -> None:
    """Carries a run to its end in a folder claimed by `runs.open_run`.

    Args:
        config: the configuration.
        examples: normal training images at `config.image_size`.
        folder: the run's folder; a checkpoint in it is resumed.
        checkpoint_minutes: time between checkpoints.
        report: takes a line for the user.
    """
    report(f"Computing with {keras.backend.backend()} on {', '.join(keras.distribution.list_devices())}.")
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")  # it only feeds; the memory is for the other backend
    keras.utils.set_random_seed(config.seed)
    nets = networks.build(config)
    if config.weights:
        arrays = weights.read_resnet18(Path(config.weights).expanduser(), config.resolved_stem)
        networks.set_resnet18_weights(nets.backbone, arrays)
    images = examples.images
    if config.proxy_task == "cutswap":
        report("Finding salient pixels.")
        images = saliency.mark(images, weights.read_saliency_network(config))
    if not (folder / "augmentations.png").exists():
        views, labels = next(iter(pipeline.stream(images, config)))
        plots.save_augmentations(folder / "augmentations.png", views.numpy(), labels.numpy(), config.views)
    if config.epochs:
        fit(nets.classifier, images, config, folder, checkpoint_minutes=checkpoint_minutes, report=report)
    finish(nets.feature, examples, config, folder, report=report)


def compile_classifier(classifier: keras.Model, config: Config) -> None:
    """Gives the network its loss, optimizer and schedule: cross-entropy + L2, momentum SGD, one cosine cycle.

    L2 is part of the loss, as in DROC: c * sum(w^2) / 2. SGD's `weight_decay` is decoupled from the
    loss and would be another method.
    """
    for variable in classifier.trainable_variables:
        if config.l2_batch_norm or not variable.path.endswith(("/gamma", "/beta")):
            variable.regularizer = keras.regularizers.L2(config.l2 / 2)
    classifier.compile(
        keras.optimizers.SGD(learning_rate_schedule(config), momentum=config.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    classifier.optimizer.build(classifier.trainable_variables)


def learning_rate_schedule(config: Config) -> keras.optimizers.schedules.LearningRateSchedule:
    """One cosine cycle over all steps, without warm-up, to 0 (A.1): lr * (1 + cos(pi * step / steps)) / 2."""
    return keras.optimizers.schedules.CosineDecay(config.learning_rate, max(1, config.total_steps))


def fit(
    classifier: keras.Model,
    images: np.ndarray,
    config: Config,
    folder: Path,
    *,
    checkpoint_minutes: float,
    report: Report,
) -> None:
    """Trains the classifier to the run's last step, from the folder's checkpoint if there is one."""
    compile_classifier(classifier, config)
    step = restore_checkpoint(classifier, folder / runs.CHECKPOINT)
    if step:
        report(f"Resuming after step {step} of {config.total_steps}.")
    callbacks = [
        _Log(config, folder, step, report),
        _Checkpoint(config, folder / runs.CHECKPOINT, step, checkpoint_minutes),
    ]
    for first, steps, epochs in _segments(step, config):
        done = first // config.steps_per_epoch
        classifier.fit(
            pipeline.stream(images, config, start_step=first),
            initial_epoch=done,
            epochs=done + epochs,
            steps_per_epoch=steps,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )


def finish(feature: keras.Model, examples: Examples, config: Config, folder: Path, *, report: Report) -> None:
    """Fits the density to the unaugmented training images and saves features and detector."""
    report(f"Fitting the density to {len(examples.images)} training images.")
    features = detector.embed(feature, examples.images)
    fitted = density.build(config).fit(features)
    runs.write_arrays(
        folder / "train_embeddings.npz",
        {
            "features": features,
            "paths": np.array(examples.paths),
            "thumbnails": thumbnails(examples.images[:: math.ceil(len(examples.images) / _THUMBNAILS)]),
        },
    )
    Detector(feature, fitted, config).save(folder / runs.DETECTOR)
    (folder / runs.CHECKPOINT).unlink(missing_ok=True)


def save_checkpoint(classifier: keras.Model, path: Path, step: int) -> None:
    """Writes weights, batch-norm statistics, optimizer state and the number of steps done."""
    arrays = {f"{i:04d}": np.asarray(v) for i, v in enumerate(_state(classifier))}
    runs.write_arrays(path, {**arrays, "step": np.array(step)})


def restore_checkpoint(classifier: keras.Model, path: Path) -> int:
    """Reads what `save_checkpoint` wrote; returns the steps done, 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    with np.load(path) as arrays:
        for i, variable in enumerate(_state(classifier)):
            variable.assign(arrays[f"{i:04d}"])
        return int(arrays["step"])


def _state(classifier: keras.Model) -> list[Any]:
    return [*classifier.variables, *classifier.optimizer.variables]


def _segments(step: int, config: Config) -> Iterator[tuple[int, int, int]]:
    """(first step, steps per epoch, epochs): what is left of a broken epoch, then the whole ones."""
    into_epoch = step % config.steps_per_epoch
    if into_epoch:
        rest = config.steps_per_epoch - into_epoch
        yield step, rest, 1
        step += rest
    if step < config.total_steps:
        yield step, config.steps_per_epoch, (config.total_steps - step) // config.steps_per_epoch


class _Checkpoint(keras.callbacks.Callback):
    """Saves the state every so many minutes, and at the last step."""

    def __init__(self, config: Config, path: Path, step: int, minutes: float):
        super().__init__()
        self._config, self._path, self._step, self._seconds = config, path, step, 60 * minutes
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._step += 1
        if self._step % self._config.steps_per_epoch:
            self._save_if_due(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # The epoch's last step is saved here, after its row was logged: a resumed run starts after both.
        self._save_if_due(logs)

    def _save_if_due(self, logs: dict[str, Any] | None) -> None:
        if self._step < self._config.total_steps and time.monotonic() - self._saved_at < self._seconds:
            return
        if logs and not math.isfinite(logs["loss"]):
            raise InputError(
                f"The loss is {float(logs['loss'])} after step {self._step}: training has diverged. "
                "Start again in another --output_dir with a lower --learning_rate."
            )
        # Asking for self.model brings the variables up to date on JAX, which is slow: only here.
        save_checkpoint(self.model, self._path, self._step)
        self._saved_at = time.monotonic()


class _Log(keras.callbacks.Callback):
    """Shows progress, and writes train_log.csv and TensorBoard's files, a row for each epoch.

    Loss (with L2) and accuracy are means over the epoch's steps; after a resume within an epoch, over
    the steps that were left of it.
    """

    def __init__(self, config: Config, folder: Path, step: int, report: Report):
        super().__init__()
        self._config, self._report, self._step = config, report, step
        self._path = folder / "train_log.csv"
        self._rows = [row for row in _read_csv(self._path) if int(row["step"]) <= step]
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
        self._schedule = learning_rate_schedule(config)
        self._began, self._began_step = time.monotonic(), step
        self._shown_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._epoch_began, self._epoch_step = epoch, time.monotonic(), self._step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._step += 1
        if self._step == self._began_step + 1:
            self._began = time.monotonic()  # the first step compiles; it does not count
        pause = 10 if sys.stdout.isatty() else 30
        if logs and time.monotonic() - self._shown_at >= pause:
            self._shown_at = time.monotonic()
            self._report(self._line(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        seconds = time.monotonic() - self._epoch_began
        row = {
            "epoch": epoch + 1,
            "step": self._step,
            "loss": round(float(logs["loss"]), 6),
            "accuracy": round(float(logs["accuracy"]), 6),
            "learning_rate": float(f"{self._learning_rate():.8g}"),
            "images_per_second": round((self._step - self._epoch_step) * self._config.batch_size / seconds, 2),
        }
        self._rows.append(row)
        runs.write_csv(self._path, self._rows)
        with self._writer.as_default(step=self._step):
            for name in ("loss", "accuracy", "learning_rate", "images_per_second"):
                tf.summary.scalar(name, row[name])
        self._writer.flush()
        if self._step == self._config.total_steps:
            self._report(self._line(logs))

    def _learning_rate(self) -> float:
        """Of the step that was just done."""
        return float(self._schedule(self._step - 1))

    def _line(self, logs: dict[str, Any]) -> str:
        speed = max(1, self._step - self._began_step - 1) / (time.monotonic() - self._began)
        left = (self._config.total_steps - self._step) / speed
        return (
            f"epoch {self._epoch + 1}/{self._config.epochs}  step {self._step}/{self._config.total_steps}  "
            f"loss {float(logs['loss']):.4f}  accuracy {float(logs['accuracy']):.3f}  "
            f"lr {self._learning_rate():.5f}  {speed * self._config.batch_size:.1f} images/s  left {_clock(left)}"
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _read_csv(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
