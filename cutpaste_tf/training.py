"""Fits the proxy task, then the density (Sections 2.1, 2.3, Appendix A.1); resumes where it stopped."""

import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import dense, density, detector, embeddings, networks, pipeline, plots, runs, saliency, weights
from cutpaste_tf.backend import keras
from cutpaste_tf.config import Config, Phase
from cutpaste_tf.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples
from cutpaste_tf.networks import Networks
from cutpaste_tf.progress import ProgressLog
from cutpaste_tf.runs import TrainingData

Report = Callable[[str], None]


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
    keras.utils.set_random_seed(config.seed)
    nets = _initial_networks(config)
    images = examples.images
    if config.proxy_task == "cutswap":
        report("Finding salient pixels.")
        images = saliency.mark(images, weights.read_saliency_network(config))
    if not (folder / "augmentations.png").exists():
        views, labels = next(iter(pipeline.stream(images, config)))
        plots.save_augmentations(folder / "augmentations.png", views.numpy(), labels.numpy(), config.views)
    if config.phases:
        fit(nets, images, config, folder, checkpoint_minutes=checkpoint_minutes, report=report)
    finish(nets.feature, examples, config, folder, report=report)


def check(config: Config) -> None:
    """Builds the networks to see that the weights fit and the feature exists, before a run is begun.

    Raises:
        InputError: they do not.
    """
    networks.feature_model(_initial_networks(config).feature, config.feature)


def _initial_networks(config: Config) -> Networks:
    """The networks as training finds them: fresh, or with pretrained weights."""
    nets = networks.build(config)
    if config.weights:
        networks.set_weights(nets.backbone, config)
    return nets


def compile_classifier(classifier: keras.Model, config: Config, phase: Phase) -> None:
    """Gives the network its loss, optimizer and schedule: cross-entropy + L2, momentum SGD, one cosine cycle.

    L2 is part of the loss, as in DROC: c * sum(w^2) / 2 over what the phase trains. SGD's
    `weight_decay` is decoupled from the loss and would be another method.
    """
    for variable in classifier.trainable_variables:
        if config.l2_batch_norm or not variable.path.endswith(("/gamma", "/beta")):
            variable.regularizer = keras.regularizers.L2(config.l2 / 2)
    classifier.compile(
        keras.optimizers.SGD(learning_rate_schedule(phase), momentum=config.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Keras' loss has L2 in it, which is most of it at the start; the cross-entropy says what was learnt.
        metrics=[keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=True), "accuracy"],
    )
    classifier.optimizer.build(classifier.trainable_variables)


def learning_rate_schedule(phase: Phase) -> keras.optimizers.schedules.LearningRateSchedule:
    """One cosine cycle over a phase, without warm-up, to 0 (A.1): lr * (1 + cos(pi * step / steps)) / 2."""
    return keras.optimizers.schedules.CosineDecay(phase.learning_rate, phase.end - phase.start)


def learning_rate(config: Config, step: int) -> float:
    """The learning rate of a step of the whole run."""
    phase = next(phase for phase in config.phases if step < phase.end)
    return float(learning_rate_schedule(phase)(step - phase.start))


def fit(
    nets: Networks,
    images: np.ndarray,
    config: Config,
    folder: Path,
    *,
    checkpoint_minutes: float,
    report: Report,
) -> None:
    """Trains the classifier through its phases to the last step, from the folder's checkpoint if there is one."""
    path = folder / runs.CHECKPOINT
    step = saved_step(path)
    if step:
        report(f"Resuming after step {step} of {config.total_steps}.")
    callbacks = [
        ProgressLog(config, folder, step, learning_rate=functools.partial(learning_rate, config), report=report),
        _Checkpoint(config, path, step, checkpoint_minutes),
    ]
    restored = not step
    for phase in config.phases:
        if step >= phase.end and phase != config.phases[-1]:
            continue
        networks.set_trainable(nets.backbone, config, phase)
        compile_classifier(nets.classifier, config, phase)
        if not restored:
            restore_checkpoint(nets.classifier, path, with_optimizer=step > phase.start)
            restored = True
        for first, steps, epochs in _segments(step, phase.end, config.steps_per_epoch):
            done = first // config.steps_per_epoch
            nets.classifier.fit(
                pipeline.stream(images, config, start_step=first),
                initial_epoch=done,
                epochs=done + epochs,
                steps_per_epoch=steps,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
        step = phase.end


def finish(network: keras.Model, examples: Examples, config: Config, folder: Path, *, report: Report) -> None:
    """Fits the density to the unaugmented training images and saves features and detector."""
    report(f"Fitting the density to {len(examples.images)} training images.")
    feature = networks.feature_model(network, config.feature)
    if config.patch_size:
        fitted = detector.fit_patches(dense.function(feature, config), examples.images, config, report=report)
        found = detector.describe(np.zeros((len(examples.images), 0), np.float32), examples)
    else:
        found = detector.embed_examples(feature, examples)
        fitted = density.build(config).fit(found.features)
    embeddings.write(folder / runs.TRAIN_EMBEDDINGS, found)
    Detector(network, fitted, config).save(folder / runs.DETECTOR, TrainingData.read(folder))
    (folder / runs.CHECKPOINT).unlink(missing_ok=True)


def save_checkpoint(classifier: keras.Model, path: Path, step: int) -> None:
    """Writes weights, batch-norm statistics, optimizer state and the number of steps done."""
    arrays = {key: np.asarray(variable) for key, variable in _state(classifier, with_optimizer=True)}
    runs.write_arrays(path, {**arrays, "step": np.array(step)})


def saved_step(path: Path) -> int:
    """The steps done before a checkpoint; 0 where there is none."""
    if not path.exists():
        return 0
    try:
        with np.load(path) as arrays:
            return int(dict(arrays)["step"])  # all of it, so that damage is found
    except runs.DAMAGE as error:
        raise InputError(f"{path} is damaged ({error}): delete it to begin again from the first step.") from None


def restore_checkpoint(classifier: keras.Model, path: Path, *, with_optimizer: bool) -> None:
    """Reads what `save_checkpoint` wrote; a phase that begins just here begins with an optimizer of its own."""
    with np.load(path) as arrays:
        for key, variable in _state(classifier, with_optimizer=with_optimizer):
            variable.assign(arrays[key])


def _state(classifier: keras.Model, *, with_optimizer: bool) -> Iterator[tuple[str, Any]]:
    for index, variable in enumerate(classifier.variables):
        yield f"model{index:04d}", variable
    if with_optimizer:
        for index, variable in enumerate(classifier.optimizer.variables):
            yield f"optimizer{index:04d}", variable


def _segments(step: int, end: int, steps_per_epoch: int) -> Iterator[tuple[int, int, int]]:
    """(first step, steps per epoch, epochs): what is left of a broken epoch, then the whole ones."""
    into_epoch = step % steps_per_epoch
    if into_epoch:
        rest = steps_per_epoch - into_epoch
        yield step, rest, 1
        step += rest
    if step < end:
        yield step, steps_per_epoch, (end - step) // steps_per_epoch


class _Checkpoint(keras.callbacks.Callback):
    """Saves the state every so many minutes, and at the last step.

    Steps are counted as they begin: a callback that hears of their end makes Keras fetch every metric from the device
    each time.
    """

    def __init__(self, config: Config, path: Path, step: int, minutes: float):
        super().__init__()
        self._config, self._path, self._step, self._seconds = config, path, step, 60 * minutes
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._first = self._step

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._step = self._first + batch
        if batch and time.monotonic() - self._saved_at >= self._seconds:
            # Asking for self.model brings the variables up to date on JAX, which is slow: only here.
            self._save(self.model.get_metrics_result())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # The epoch's last step is saved here, after its row was logged: a resumed run starts after both.
        self._step = self._first + (self.params or {})["steps"]
        if self._step == self._config.total_steps or time.monotonic() - self._saved_at >= self._seconds:
            self._save(logs or {})

    def _save(self, metrics: dict[str, Any]) -> None:
        if metrics and not math.isfinite(float(metrics["loss"])):
            raise InputError(
                f"The loss is {float(metrics['loss'])} after step {self._step}: training has diverged. "
                "Start again in another --output_dir with a lower --learning_rate."
            )
        save_checkpoint(self.model, self._path, self._step)
        self._saved_at = time.monotonic()
