"""Trains on the proxy task (Section 2.1, Appendix A.1, A.3, A.4); resumes from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cutpaste_tf import devices, runs
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras
from cutpaste_tf.networks import batch_norm, build, saliency, weights
from cutpaste_tf.networks.backbones import BACKBONES
from cutpaste_tf.networks.build import Networks
from cutpaste_tf.progress import Report
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.schedule import Phase, ScheduleSettings
from cutpaste_tf.training import checkpoint, stopping
from cutpaste_tf.training.execution import JIT_COMPILE, Execution


def initial_networks(config: Config) -> Networks:
    """The networks before training: initialized from the seed, or with pretrained weights.

    Raises:
        InputError: the weights do not fit.
    """
    keras.utils.set_random_seed(config.seed)
    nets = build.build(config.network, len(config.augmentation.views))
    if config.network.weights:
        set_weights = BACKBONES[config.network.backbone].set_weights
        set_weights(nets.backbone, config.network.weights, config.network.stem)
    return nets._replace(classifier=build.from_uint8(nets.classifier)) if config.augmentation.uint8_views else nets


def marked(images: np.ndarray, config: Config, report: Report) -> np.ndarray:
    """The images, uint8 [count, height, width, 3], with a channel of salient pixels if the task needs one."""
    if not config.augmentation.needs_saliency:
        return images
    report("Finding salient pixels.")
    return saliency.mark(images, weights.read_saliency_network(config.saliency_weights), report=report)


def calibrate_batch_norm(nets: Networks, images: np.ndarray, config: Config, report: Report) -> None:
    """Sets batch norm's statistics to those of the images, uint8 [count, height, width, 3], if the run does so."""
    if not config.schedule.calibrate_batch_norm:
        return
    report(f"Setting batch norm's statistics to those of {len(images)} training images.")
    batches = batch_norm.batches(images, config.view_size, config.schedule.batch_size, config.seed)
    batch_norm.calibrate_batch_norm(nets.feature, batches)


def compile_classifier(
    classifier: keras.Model, settings: ScheduleSettings, phase: Phase, *, execution: Execution = Execution()
) -> None:
    """Sets the network's loss, optimizer and schedule: cross-entropy + L2, momentum SGD, one cosine cycle.

    L2 is part of the loss, as in DROC: c * sum(w^2) / 2 over the weights that the phase trains. SGD's `weight_decay` is
    decoupled from the loss and would be a different method. In float16, Keras scales the loss and skips steps whose
    gradients overflow.
    """
    for variable in classifier.trainable_variables:
        if settings.l2_batch_norm or not variable.path.endswith(("/gamma", "/beta")):
            variable.regularizer = keras.regularizers.L2(settings.l2 / 2)
    classifier.compile(
        keras.optimizers.SGD(learning_rate_schedule(phase), momentum=settings.momentum),  # pyright: ignore[reportArgumentType]
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Keras' loss includes L2, which dominates at first; the cross-entropy shows what was learned.
        metrics=[keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=True), "accuracy"],
        steps_per_execution=execution.steps_per_execution,
        jit_compile=JIT_COMPILE[execution.jit_compile],  # pyright: ignore[reportArgumentType]
    )
    classifier.optimizer.build(classifier.trainable_variables)


def learning_rate_schedule(phase: Phase) -> keras.optimizers.schedules.LearningRateSchedule:
    """One cosine cycle over a phase, without warm-up, to 0 (A.1): lr * (1 + cos(pi * step / steps)) / 2."""
    return keras.optimizers.schedules.CosineDecay(phase.learning_rate, phase.end - phase.start)


def fit(
    nets: Networks,
    images: np.ndarray,
    config: Config,
    folder: Path,
    *,
    checkpoint_minutes: float,
    execution: Execution = Execution(),
    report: Report,
) -> None:
    """Trains the classifier through its phases to the last step, starting from the folder's checkpoint if it has one.

    Ctrl-C and SIGTERM end training after the current step, with a checkpoint; a second signal ends it at once.

    Args:
        nets: the result of `initial_networks`.
        images: as in `pipeline.stream`.
        config: configuration of the run.
        folder: folder of the run.
        checkpoint_minutes: time between checkpoints.
        execution: how steps are executed.

    Raises:
        InputError: the checkpoint is damaged, or training diverges.
        SignalError: a signal ended training; the message says after which step.
    """
    from cutpaste_tf.training.callbacks import Checkpoints, ProgressLog  # importing its Keras subclasses loads Keras

    path, schedule = folder / runs.CHECKPOINT, config.schedule
    step = checkpoint.saved_step(path)
    if step:
        report(f"Resuming after step {step} of {schedule.total_steps}.")
    phase, classifier = schedule.phases[0], nets.classifier

    def learning_rate() -> float:
        """The learning rate of the last step; steps skipped by loss scaling do not count."""
        return float(learning_rate_schedule(phase)(max(0, int(np.asarray(classifier.optimizer.iterations)) - 1)))

    freezes_batch_norm = config.network.freeze_batch_norm == "yes"
    restored = not step
    with stopping.requests() as stop:
        callbacks = [
            ProgressLog(schedule, folder, step, learning_rate=learning_rate, report=report),
            Checkpoints(schedule, path, step, checkpoint_minutes, stop),
        ]
        for phase in schedule.phases:
            if step >= phase.end and phase != schedule.phases[-1]:
                continue
            build.set_trainable(nets.backbone, head_only=phase.head_only, freezes_batch_norm=freezes_batch_norm)
            compile_classifier(classifier, schedule, phase, execution=execution)
            if not restored:
                checkpoint.restore(classifier, path, with_optimizer=step > phase.start)
                restored = True
            for segment in _segments(step, phase.end, schedule.steps_per_epoch):
                _fit_segment(classifier, images, config, segment, callbacks, execution)
            step = phase.end


def _fit_segment(
    classifier: keras.Model,
    images: np.ndarray,
    config: Config,
    segment: tuple[int, int, int],
    callbacks: Sequence[keras.callbacks.Callback],
    execution: Execution,
) -> None:
    """Trains one segment from `_segments`."""
    first, steps, epochs = segment
    finished_epochs = first // config.schedule.steps_per_epoch
    stream = pipeline.stream(
        images,
        config.augmentation,
        batch_size=config.schedule.batch_size,
        seed=config.seed,
        start_step=first,
    )
    _execute_together(classifier, math.gcd(steps, execution.steps_per_execution))
    with devices.synchronized(classifier):
        classifier.fit(
            stream,
            initial_epoch=finished_epochs,
            epochs=finished_epochs + epochs,
            steps_per_epoch=steps,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,  # pyright: ignore[reportArgumentType]
        )


def _execute_together(classifier: keras.Model, steps: int) -> None:
    """Sets the number of steps per execution. It must divide the steps of `fit`, or Keras runs too many."""
    if classifier.steps_per_execution != steps:
        classifier.steps_per_execution = steps
        classifier.train_function = None  # Keras rebuilds it


def _segments(step: int, end: int, steps_per_epoch: int) -> Iterator[tuple[int, int, int]]:
    """(first step, steps per epoch, epochs): the rest of an interrupted epoch, then full epochs."""
    into_epoch = step % steps_per_epoch
    if into_epoch:
        rest = steps_per_epoch - into_epoch
        yield step, rest, 1
        step += rest
    if step < end:
        yield step, steps_per_epoch, (end - step) // steps_per_epoch
