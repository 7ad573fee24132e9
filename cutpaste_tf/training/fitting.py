"""Fits the proxy task (Sections 2.1, Appendix A.1, A.3, A.4); resumes where it stopped."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cutpaste_tf import devices, processes, runs
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras
from cutpaste_tf.config.config import Config
from cutpaste_tf.config.schedule import Phase, ScheduleSettings
from cutpaste_tf.networks import build
from cutpaste_tf.networks.build import Networks
from cutpaste_tf.progress import Report
from cutpaste_tf.training import checkpoint


def initial_networks(config: Config) -> Networks:
    """The networks as training finds them: drawn from the seed, or with pretrained weights.

    Raises:
        InputError: the weights do not fit.
    """
    keras.utils.set_random_seed(config.seed)
    nets = build.build(config.network, len(config.augmentation.views))
    if config.network.weights:
        config.network.kind.set_weights(nets.backbone, config.network.weights, config.network.stem)
    return nets


def compile_classifier(classifier: keras.Model, settings: ScheduleSettings, phase: Phase) -> None:
    """Gives the network its loss, optimizer and schedule: cross-entropy + L2, momentum SGD, one cosine cycle.

    L2 is part of the loss, as in DROC: c * sum(w^2) / 2 over what the phase trains. SGD's
    `weight_decay` is decoupled from the loss and would be another method.
    """
    for variable in classifier.trainable_variables:
        if settings.l2_batch_norm or not variable.path.endswith(("/gamma", "/beta")):
            variable.regularizer = keras.regularizers.L2(settings.l2 / 2)
    classifier.compile(
        keras.optimizers.SGD(learning_rate_schedule(phase), momentum=settings.momentum),  # pyright: ignore[reportArgumentType]
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Keras' loss has L2 in it, which is most of it at the start; the cross-entropy says what was learnt.
        metrics=[keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=True), "accuracy"],
    )
    classifier.optimizer.build(classifier.trainable_variables)


def learning_rate_schedule(phase: Phase) -> keras.optimizers.schedules.LearningRateSchedule:
    """One cosine cycle over a phase, without warm-up, to 0 (A.1): lr * (1 + cos(pi * step / steps)) / 2."""
    return keras.optimizers.schedules.CosineDecay(phase.learning_rate, phase.end - phase.start)


def learning_rate(settings: ScheduleSettings, step: int) -> float:
    """The learning rate of a step of the whole run."""
    phase = next(phase for phase in settings.phases if step < phase.end)
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
    """Trains the classifier through its phases to the last step, from the folder's checkpoint if there is one.

    Args:
        nets: as of `initial_networks`.
        images: as in `pipeline.stream`.
        config: of the run.
        folder: of the run.
        checkpoint_minutes: time between checkpoints.
        report: takes a line for the user.

    Raises:
        InputError: the checkpoint is damaged, or training diverges.
    """
    from cutpaste_tf.training.callbacks import Checkpoints, ProgressLog  # subclasses of Keras' load it

    path, schedule = folder / runs.CHECKPOINT, config.schedule
    step = checkpoint.saved_step(path)
    if step:
        report(f"Resuming after step {step} of {schedule.total_steps}.")
    callbacks = [
        ProgressLog(schedule, folder, step, learning_rate=functools.partial(learning_rate, schedule), report=report),
        Checkpoints(schedule, path, step, checkpoint_minutes),
    ]
    freezes_batch_norm = config.network.freeze_batch_norm == "yes"
    restored = not step
    for phase in schedule.phases:
        if step >= phase.end and phase != schedule.phases[-1]:
            continue
        build.set_trainable(nets.backbone, head_only=phase.head_only, freezes_batch_norm=freezes_batch_norm)
        compile_classifier(nets.classifier, schedule, phase)
        if not restored:
            checkpoint.restore(nets.classifier, path, with_optimizer=step > phase.start)
            restored = True
        for first, steps, epochs in _segments(step, phase.end, schedule.steps_per_epoch):
            done = first // schedule.steps_per_epoch
            stream = pipeline.stream(
                images,
                config.augmentation,
                batch_size=schedule.batch_size,
                seed=config.seed,
                start_step=first,
                part=processes.part(),
            )
            with devices.synchronized(nets.classifier):
                nets.classifier.fit(
                    stream,
                    initial_epoch=done,
                    epochs=done + epochs,
                    steps_per_epoch=steps,
                    callbacks=callbacks,
                    shuffle=False,
                    verbose=0,
                )
        step = phase.end


def _segments(step: int, end: int, steps_per_epoch: int) -> Iterator[tuple[int, int, int]]:
    """(first step, steps per epoch, epochs): what is left of a broken epoch, then the whole ones."""
    into_epoch = step % steps_per_epoch
    if into_epoch:
        rest = steps_per_epoch - into_epoch
        yield step, rest, 1
        step += rest
    if step < end:
        yield step, steps_per_epoch, (end - step) // steps_per_epoch
