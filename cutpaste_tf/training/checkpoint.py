"""Checkpoints: weights, batch-norm statistics, optimizer state, step, and the epoch's metrics so far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf.backend import keras
from cutpaste_tf.files import read_arrays, reading, write_arrays


def save(classifier: keras.Model, path: Path, step: int) -> None:
    """Writes weights, batch-norm statistics, optimizer state, the number of steps done, and the metrics' sums."""
    variables = (*_state(classifier, with_optimizer=True), *_metrics(classifier))
    write_arrays(path, {**{key: np.asarray(variable) for key, variable in variables}, "step": np.array(step)})


def saved_step(path: Path) -> int:
    """The number of steps in a checkpoint; 0 if there is none.

    Raises:
        InputError: the checkpoint is damaged.
    """
    if not path.exists():
        return 0
    with _reading(path) as arrays:
        step = arrays["step"]
        if step.shape or step.dtype.kind not in "iu" or step < 0:
            raise ValueError("its step is not a number")
        return int(step)


def restore(classifier: keras.Model, path: Path, *, with_optimizer: bool) -> None:
    """Restores what `save` wrote; skips the optimizer if a new phase begins here, since each phase has its own.

    Raises:
        InputError: the checkpoint is damaged, or from another network.
    """
    with _reading(path) as arrays:
        for key, variable in _state(classifier, with_optimizer=with_optimizer):
            _assign(variable, arrays[key], key)


def restore_metrics(classifier: keras.Model, path: Path) -> None:
    """Restores the metrics; version 0.2 did not save them, so they stay as they are.

    Raises:
        InputError: the checkpoint is damaged.
    """
    with _reading(path) as arrays:
        if f"metrics{len(classifier.metrics_variables):04d}" in arrays:
            # On TensorFlow, the first step creates their variables; here a dummy step does so.
            logits = np.zeros((1, *classifier.output_shape[1:]), np.float32)
            classifier.compute_metrics(None, np.zeros(1, np.int64), logits)
        for key, variable in _metrics(classifier):
            if key in arrays:
                _assign(variable, arrays[key], key)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of a checkpoint; all are read, which detects damage. What is wrong with them becomes an InputError."""
    with reading(path, ": delete it to start over from the first step."):
        yield read_arrays(path)


def _assign(variable: Any, value: np.ndarray, key: str) -> None:
    """Sets a variable; raises ValueError if the value does not fit."""
    if value.shape != tuple(variable.shape) or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
        raise ValueError(f"{key} does not fit the network")
    variable.assign(value)


def _state(classifier: keras.Model, *, with_optimizer: bool) -> Iterator[tuple[str, Any]]:
    for index, variable in enumerate(classifier.variables):
        yield f"model{index:04d}", variable
    if with_optimizer:
        for index, variable in enumerate(classifier.optimizer.variables):
            yield f"optimizer{index:04d}", variable


def _metrics(classifier: keras.Model) -> Iterator[tuple[str, Any]]:
    """The sums and counts behind the epoch's means."""
    for index, variable in enumerate(classifier.metrics_variables):
        yield f"metrics{index:04d}", variable
