"""Scores images with an export, as a program would that has only TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import arrays, runs
from cutpaste_tf.backend import tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.exporting.graph import Outputs
from cutpaste_tf.exporting.record import SAVED_MODEL, Record
from cutpaste_tf.files import COPY_AGAIN

_PIXELS = 2**21  # of images that are scored together, which are of one size: 32 of 256 px


class Exported:
    """An export's SavedModel.

    Args:
        folder: that `export_main.py` wrote.

    Attributes:
        record: what is recorded of it.

    Raises:
        InputError: the folder is no such export, or a file of it is damaged.
    """

    def __init__(self, folder: Path):
        self.record = Record.read(folder)
        if self.record.format != "saved_model":
            raise InputError(
                f"{folder} is an export with --format={self.record.format}, whose scores differ from the evaluation's "
                "by what its export.json says; evaluate the run, or an export with --format=saved_model."
            )
        if not (folder / runs.CALIBRATION).is_file():
            raise InputError(f"{folder / runs.CALIBRATION} is missing: {COPY_AGAIN}.")
        self._folder = folder

    def load(self) -> None:
        """Loads the model now rather than when it first scores."""
        _ = self._model

    @functools.cached_property
    def _model(self) -> Any:
        return tf.saved_model.load(str(self._folder / SAVED_MODEL))  # the folder is loaded when it is first used

    def score(self, images: Iterable[np.ndarray], count: int) -> Outputs:
        """Scores images, each uint8 [height, width, 3] of any size.

        Args:
            images: one after the other; those of one size that follow each other are scored together.
            count: how many.

        Returns:
            Arrays, see `graph.Outputs`; heat maps in memory up to 128 MiB, else in a file.
        """
        serve = self._model.signatures["serving_default"]
        side = self.record.image_size
        scores, p_values, decisions = np.empty(count), np.empty(count), np.empty(count, bool)
        result = Outputs(scores, p_values, decisions, arrays.allocate(count, (side, side), np.float32))
        start = 0
        for batch in _batches(images):
            found = serve(images=tf.constant(batch))
            for name, target in result._asdict().items():
                target[start : start + len(batch)] = found[name].numpy()
            start += len(batch)
        return result


def _batches(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    held: list[np.ndarray] = []
    for image in images:
        if held and (image.shape != held[0].shape or (len(held) + 1) * image[..., 0].size > _PIXELS):
            yield np.stack(held)
            held = []
        held.append(image)
    if held:
        yield np.stack(held)
