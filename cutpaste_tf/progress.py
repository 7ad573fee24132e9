"""What training shows and logs: a line now and then, train_log.csv, TensorBoard's files."""

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cutpaste_tf import runs
from cutpaste_tf.config import Config


class ProgressLog(keras.callbacks.Callback):
    """Shows progress, and writes train_log.csv and TensorBoard's files, a row for each epoch.

    Loss (with L2) and accuracy are means over the epoch's steps; after a resume within an epoch, over
    the steps that were left of it.

    Args:
        config: of the run.
        folder: of the run.
        step: steps done before.
        learning_rate: gives that of a step.
        report: takes a line for the user.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        step: int,
        *,
        learning_rate: Callable[[int], float],
        report: Callable[[str], None],
    ):
        super().__init__()
        self._config, self._report, self._step = config, report, step
        self._learning_rate = learning_rate
        self._path = folder / "train_log.csv"
        self._rows = [row for row in _read_csv(self._path) if int(row["step"]) <= step]
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
        self._began, self._began_step = time.monotonic(), step
        self._shown_at = time.monotonic()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins a phase, which has a speed of its own."""
        self._began_step = self._step

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes when and where the epoch began."""
        self._epoch, self._epoch_began, self._epoch_step = epoch, time.monotonic(), self._step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows a line now and then."""
        self._step += 1
        if self._step == self._began_step + 1:
            self._began = time.monotonic()  # the first step compiles; it does not count
        pause = 10 if sys.stdout.isatty() else 30
        if logs and time.monotonic() - self._shown_at >= pause:
            self._shown_at = time.monotonic()
            self._report(self._line(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the epoch."""
        logs = logs or {}
        seconds = time.monotonic() - self._epoch_began
        row = {
            "epoch": epoch + 1,
            "step": self._step,
            "loss": round(float(logs["loss"]), 6),
            "accuracy": round(float(logs["accuracy"]), 6),
            "learning_rate": float(f"{self._learning_rate(self._step - 1):.8g}"),
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

    def _line(self, logs: dict[str, Any]) -> str:
        speed = max(1, self._step - self._began_step - 1) / (time.monotonic() - self._began)
        left = (self._config.total_steps - self._step) / speed
        epochs = self._config.head_epochs + self._config.epochs
        rate = self._learning_rate(self._step - 1)
        return (
            f"epoch {self._epoch + 1}/{epochs}  step {self._step}/{self._config.total_steps}  "
            f"loss {float(logs['loss']):.4f}  accuracy {float(logs['accuracy']):.3f}  "
            f"lr {rate:.5f}  {speed * self._config.batch_size:.1f} images/s  left {_clock(left)}"
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
