"""What of a training is kept on the way: weights, batch-norm statistics, optimizer state, step, the epoch's metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import DAMAGE, damage, write_arrays


def save(classifier: keras.Model, path: Path, step: int) -> None:
    """Writes weights, batch-norm statistics, optimizer state, the number of steps done, and the sums of the metrics."""
    variables = (*_state(classifier, with_optimizer=True), *_metrics(classifier))
    write_arrays(path, {**{key: np.asarray(variable) for key, variable in variables}, "step": np.array(step)})


def saved_step(path: Path) -> int:
    """The steps done before a checkpoint; 0 where there is none."""
    if not path.exists():
        return 0
    try:
        with np.load(path) as arrays:
            return int(dict(arrays)["step"])  # all of it, so that damage is found
    except DAMAGE as error:
        raise InputError(
            f"{path} is damaged ({damage(error)}): delete it to begin again from the first step."
        ) from None


def restore(classifier: keras.Model, path: Path, *, with_optimizer: bool) -> None:
    """Reads what `save` wrote; a phase that begins just here begins with an optimizer of its own."""
    with np.load(path) as arrays:
        for key, variable in _state(classifier, with_optimizer=with_optimizer):
            variable.assign(arrays[key])


def restore_metrics(classifier: keras.Model, path: Path) -> None:
    """Lets the metrics go on from where they were saved; version 0.2 did not save them: they stay as they are."""
    with np.load(path) as arrays:
        if f"metrics{len(classifier.metrics_variables):04d}" in arrays:
            # On TensorFlow the first step makes their variables; here one that is overwritten at once.
            logits = np.zeros((1, *classifier.output_shape[1:]), np.float32)
            classifier.compute_metrics(None, np.zeros(1, np.int64), logits)
        for key, variable in _metrics(classifier):
            if key in arrays:
                variable.assign(arrays[key])


def _state(classifier: keras.Model, *, with_optimizer: bool) -> Iterator[tuple[str, Any]]:
    for index, variable in enumerate(classifier.variables):
        yield f"model{index:04d}", variable
    if with_optimizer:
        for index, variable in enumerate(classifier.optimizer.variables):
            yield f"optimizer{index:04d}", variable


def _metrics(classifier: keras.Model) -> Iterator[tuple[str, Any]]:
    """The sums and counts that the epoch's means are of."""
    for index, variable in enumerate(classifier.metrics_variables):
        yield f"metrics{index:04d}", variable
