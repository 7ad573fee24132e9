"""What training shows, logs and saves: a bar or progress lines, train_log.csv, TensorBoard's files, checkpoints.

Steps are counted when they begin: on JAX, a callback at the end of each step would make Keras fetch every metric from
the device each time. Metrics are read only when a line or a checkpoint is due. With several steps per execution, Keras
calls back only for the first of them, so a line or a checkpoint waits for the end of the execution.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cutpaste_tf import files, progress
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.errors import InputError, SignalError
from cutpaste_tf.settings.schedule import ScheduleSettings
from cutpaste_tf.training import checkpoint, tensorboard
from cutpaste_tf.training.stopping import Stop


class ProgressLog(keras.callbacks.Callback):
    """Shows progress, and writes train_log.csv and TensorBoard's files, one row per epoch.

    Cross-entropy, L2 and accuracy are means over all steps of the epoch, even if it was resumed midway, see
    `Checkpoints`; images_per_second covers only the steps since it was resumed.

    Args:
        settings: length and batch size of training.
        folder: folder of the run.
        step: number of steps already done.
        learning_rate: returns the learning rate of the last step.
    """

    def __init__(
        self,
        settings: ScheduleSettings,
        folder: Path,
        step: int,
        *,
        learning_rate: Callable[[], float],
        report: progress.Report,
    ):
        super().__init__()
        self._settings, self._report, self._step = settings, report, step
        self._learning_rate = learning_rate
        self._path = folder / "train_log.csv"
        self._rows = [row for row in _logged(self._path) if int(row["step"]) <= step]
        self._writer = tensorboard.writer(folder / tensorboard.FOLDER)
        self._bar = (
            progress.bar(settings.total_steps, "Training", initial=step, unit="step")
            if progress.shows_bars(report)
            else None
        )
        self._timed_from: tuple[int, float] | None = None
        self._shown_at = time.monotonic()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins a phase or the rest of an epoch; speed is measured from the end of its first step."""
        self._timed_from = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records when and where the epoch began."""
        self._epoch, self._epoch_began, self._first = epoch, time.monotonic(), self._step

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Updates the bar, or shows a line from time to time."""
        self._step = self._first + batch
        if self._bar is not None:
            self._bar.update(self._step - self._bar.n)
        if not batch:
            return
        if self._timed_from is None:
            self._timed_from = self._step, time.monotonic()  # not the first step, which compiles
            return
        pause = 30 if self._bar is None else 5
        if time.monotonic() - self._shown_at >= pause:
            self._shown_at = time.monotonic()
            # On JAX, accessing self.model updates the metrics.
            self._show(self.model.get_metrics_result())  # pyright: ignore[reportOptionalMemberAccess]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the epoch."""
        logs = logs or {}
        self._step = self._first + (self.params or {})["steps"]
        seconds = time.monotonic() - self._epoch_began
        row = {
            "epoch": epoch + 1,
            "step": self._step,
            "cross_entropy": round(float(logs["cross_entropy"]), 6),
            "l2": round(float(logs["loss"]) - float(logs["cross_entropy"]), 6),
            "accuracy": round(float(logs["accuracy"]), 6),
            "learning_rate": float(f"{self._learning_rate():.8g}"),
            "images_per_second": round((self._step - self._first) * self._settings.batch_size / seconds, 2),
        }
        self._rows.append(row)
        files.write_csv(self._path, self._rows)
        with self._writer.as_default(step=self._step):
            for name in ("cross_entropy", "l2", "accuracy", "learning_rate", "images_per_second"):
                tf.summary.scalar(name, row[name])
        self._writer.flush()
        if self._step == self._settings.total_steps:
            if self._bar is not None:
                self._bar.close()
                self._bar = None
            self._show(logs)

    def _show(self, logs: dict[str, Any]) -> None:
        figures = self._figures(logs)
        if self._bar is None:
            self._report(self._line(figures))
        else:
            self._bar.set_postfix_str(figures)

    def _figures(self, logs: dict[str, Any]) -> str:
        cross_entropy = float(logs["cross_entropy"])  # waits for the device, so this comes before reading the clock
        return (
            f"cross-entropy {cross_entropy:.4f}  L2 {float(logs['loss']) - cross_entropy:.4f}  "
            f"accuracy {float(logs['accuracy']):.3f}  lr {self._learning_rate():.5f}"
        )

    def _line(self, figures: str) -> str:
        epochs = self._settings.head_epochs + self._settings.epochs
        line = f"epoch {self._epoch + 1}/{epochs}  step {self._step}/{self._settings.total_steps}  {figures}"
        if self._timed_from is None or self._step == self._timed_from[0]:
            return line
        speed = (self._step - self._timed_from[0]) / (time.monotonic() - self._timed_from[1])
        left = (self._settings.total_steps - self._step) / speed
        return f"{line}  {speed * self._settings.batch_size:.1f} images/s  left {_clock(left)}"


class Checkpoints(keras.callbacks.Callback):
    """Saves the state every few minutes, at the last step, and before training stops on request.

    An epoch that is resumed midway continues with its saved metrics.

    Args:
        settings: length of training.
        path: the file to write.
        step: number of steps already done, as saved in the file.
        minutes: time between checkpoints.
        stop: says when to stop; training then stops with a `SignalError`.
    """

    def __init__(self, settings: ScheduleSettings, path: Path, step: int, minutes: float, stop: Stop):
        super().__init__()
        self._settings, self._path, self._step, self._seconds = settings, path, step, 60 * minutes
        self._stop, self._saved, self._saved_at = stop, step, time.monotonic()
        self._is_within = step % settings.steps_per_epoch > 0
        self._of_epoch: dict[str, Any] = {}  # metrics of the last whole epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records where the epoch begins; Keras has just reset its metrics."""
        self._first = self._step
        if self._is_within:
            checkpoint.restore_metrics(self.model, self._path)  # pyright: ignore[reportArgumentType]
            self._is_within = False

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves if a checkpoint is due."""
        self._step, number = self._first + batch, self._stop.number
        is_due = batch and time.monotonic() - self._saved_at >= self._seconds
        if is_due or (number and self._step > self._saved):
            # On JAX, accessing self.model updates the variables, which is slow, so do it only here. Before an epoch's
            # first step, the metrics have just been reset; in a new phase, they do not exist yet.
            self._save(self.model.get_metrics_result() if batch else self._of_epoch)  # pyright: ignore[reportOptionalMemberAccess]
        if number:
            self._end(number)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves if a checkpoint is due, and at the end."""
        # The epoch's last step is saved here, after its row was logged, so a resumed run starts after both.
        self._step, number = self._first + (self.params or {})["steps"], self._stop.number
        self._of_epoch = logs or {}
        is_due = time.monotonic() - self._saved_at >= self._seconds
        if is_due or self._step == self._settings.total_steps or number:
            self._save(logs or {})
        if number:
            self._end(number)

    def _end(self, number: int) -> None:
        total = self._settings.total_steps
        position = f"after step {self._step} of {total}" if self._step else f"before the first of {total} steps"
        raise SignalError(number, f"Stopped {position}; run the same command to continue from there.")

    def _save(self, metrics: dict[str, Any]) -> None:
        if metrics and not math.isfinite(float(metrics["loss"])):
            raise InputError(
                f"The loss is {float(metrics['loss'])} after step {self._step}: training has diverged. "
                "Start again in another --output_dir with a lower --learning_rate."
            )
        checkpoint.save(self.model, self._path, self._step)  # pyright: ignore[reportArgumentType]
        self._saved, self._saved_at = self._step, time.monotonic()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _logged(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        rows = files.read_csv(path)
        for row in rows:
            int(row["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to continue without the log so far.") from None
    return rows
