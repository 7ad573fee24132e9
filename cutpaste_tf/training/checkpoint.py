"""What of a training is kept on the way: weights, batch-norm statistics, optimizer state and step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import DAMAGE, damage, write_arrays


def save(classifier: keras.Model, path: Path, step: int) -> None:
    """Writes weights, batch-norm statistics, optimizer state and the number of steps done."""
    arrays = {key: np.asarray(variable) for key, variable in _state(classifier, with_optimizer=True)}
    write_arrays(path, {**arrays, "step": np.array(step)})


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


def _state(classifier: keras.Model, *, with_optimizer: bool) -> Iterator[tuple[str, Any]]:
    for index, variable in enumerate(classifier.variables):
        yield f"model{index:04d}", variable
    if with_optimizer:
        for index, variable in enumerate(classifier.optimizer.variables):
            yield f"optimizer{index:04d}", variable
