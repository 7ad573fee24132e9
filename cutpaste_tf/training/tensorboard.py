"""A run's files for TensorBoard: RUN/tensorboard, with a subfolder for each evaluation.

The settings go to the HParams page, which compares runs by the metrics of their evaluations.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf.backend import tf
from cutpaste_tf.images import folders
from cutpaste_tf.progress import Report

FOLDER = "tensorboard"


def writer(folder: Path) -> Any:
    """A summary writer for a folder."""
    return tf.summary.create_file_writer(os.fsencode(folder))  # as text, TensorFlow refuses names that are not UTF-8


def write_views(run_dir: Path, views: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> None:
    """Writes the augmented views of the first step, one row per class.

    Args:
        run_dir: folder of the run.
        views: float32 [batch, height, width, 3] in [0, 1], as the network sees them.
        labels: int [batch].
        names: names of the classes, in the order of their labels.
    """
    with writer(run_dir / FOLDER).as_default(step=0):
        for label, name in enumerate(names):
            tf.summary.image(f"augmentations/{name}", np.clip(views[labels == label], 0, 1), max_outputs=8)


def write_settings(run_dir: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings as hyperparameters; the HParams page names the run after its folder."""
    from tensorboard.plugins.hparams import api  # loads TensorFlow

    with writer(run_dir / FOLDER).as_default(step=0):
        api.hparams(
            {name: _hyperparameter(value) for name, value in settings.items()},
            trial_id=folders.printable(str(run_dir)),  # the path, since runs with the same name would share a row
        )


def write_evaluation(
    run_dir: Path, name: str, metrics: Mapping[str, Any], pictures: Mapping[str, np.ndarray], report: Report
) -> None:
    """Writes an evaluation's AUCs and pictures.

    Args:
        run_dir: folder of the run.
        name: name of the evaluation.
        metrics: the content of metrics.json.
        pictures: uint8 [height, width, 3] by name.
    """
    if not os.access(run_dir / FOLDER, os.W_OK):
        report(f"{run_dir / FOLDER} is not writable, so TensorBoard will not show this evaluation.")
        return
    with writer(run_dir / FOLDER / name).as_default(step=metrics["steps"]):
        for tag in ("image_auroc", "pixel_auroc", "aupro"):
            if metrics.get(tag) is not None:
                tf.summary.scalar(tag, metrics[tag])
        for tag, picture in pictures.items():
            tf.summary.image(tag, picture[None])


def _hyperparameter(value: Any) -> str | bool | int | float:
    if isinstance(value, bool | int | float):
        return value
    return folders.printable(value) if isinstance(value, str) else ",".join(map(str, value))
