"""The folder of a run: what lies where, written whole or not at all.

    .lock                  held by the process at work; .HASH.lock by one that fills an evaluation's folder
    config.json            the configuration, enough to make the run again
    training_data.json     names and hashes of the training images: a resumed run must find the same ones
    augmentations.png      what the network is shown
    checkpoint.npz         weights, optimizer state and step, while training
    train_log.csv          loss, accuracy, learning rate, images/s of every epoch
    tensorboard/           the same for TensorBoard
    train_embeddings.npz   features of the training images
    detector/              the result; there once the run is complete
    embeddings/            features that eval_main.py keeps, see embeddings.py
    eval/                  what eval_main.py writes; eval_NAME=VALUE/ where settings were given anew,
                           eval_data=NAME/ for other data, eval_SHAPE_FILL/ for synthetic anomalies

A name that ends in `.partial` is being written, or was when the process died; nothing reads it.
"""

import contextlib
import csv
import dataclasses
import io
import json
import os
import shutil
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np

from cutpaste_tf import datasets
from cutpaste_tf.config import DENSE_SETTINGS, EVALUATION_SETTINGS, Config
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples

CHECKPOINT = "checkpoint.npz"
DETECTOR = "detector"
MODEL = "model.keras"  # in the detector
DENSITY = "density.npz"  # in the detector
TRAINING_DATA = "training_data.json"  # in the detector, too
TRAIN_EMBEDDINGS = "train_embeddings.npz"
EMBEDDINGS = "embeddings"
EVAL = "eval"

# What NumPy raises on an array file that is damaged, or half of one.
DAMAGE = (ValueError, OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


# What to do about it.
COPY_AGAIN = "copy the folder again from where it was trained, or delete it and train again"


class TrainingData(NamedTuple):
    """What is remembered of the training images.

    Attributes:
        images: name -> hash of its pixels.
        white: value of files with more than 8 bits that became 255; test images are scaled alike.
    """

    images: dict[str, str]
    white: int

    @classmethod
    def of(cls, examples: Examples) -> "TrainingData":
        """What there is to remember of examples."""
        return cls(dict(zip(examples.paths, examples.hashes, strict=True)), examples.white)

    def write(self, folder: Path) -> None:
        """Writes training_data.json."""
        write_whole(folder / TRAINING_DATA, json.dumps(self._asdict(), indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> "TrainingData":
        """Reads what `write` wrote.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = folder / TRAINING_DATA
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(dict(values["images"]), int(values["white"]))
        except FileNotFoundError:
            raise InputError(f"{path} is missing: copy the whole folder again, or train again.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}): copy it again, or train again.") from None


def open_run(folder: Path, config: Config, data: TrainingData) -> Config:
    """Claims a folder for a run, or finds that it is this run's already; the caller holds its lock.

    Args:
        folder: of the run.
        config: saved in it.
        data: the training images; a resumed run must find the same ones, wherever they lie now.

    Returns:
        The configuration of the run: as given, but with the first name of data that has moved since.

    Raises:
        InputError: the folder belongs to another configuration, or the images have changed since.
    """
    check(folder, config)
    path = folder / "config.json"
    if path.exists():
        before = Config.read(path)
        if TrainingData.read(folder).images != data.images:
            if datasets.is_same(before.data, config.data):
                raise InputError(
                    f"The training images have changed since the run in {folder} began; name another folder."
                )
            raise InputError(
                f"--output_dir={folder} holds a run with data={before.data} (now {config.data}, other images); name "
                "another folder, or delete it."
            )
        config = dataclasses.replace(config, data=before.data)
    else:
        data.write(folder)
    if not path.exists() or Config.read(path) != config:
        write_whole(path, config.to_json().encode())
    if is_complete(folder):
        (folder / CHECKPOINT).unlink(missing_ok=True)  # left by a run that was killed at its very end
    return config


def check(folder: Path, config: Config) -> None:
    """Sees whether a folder is free for a run, or is this run's already; writes nothing.

    Data may have moved, and the test data be named anew at any time; density and feature until the run is complete.

    Raises:
        InputError: the folder is a file, or belongs to another configuration.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir={folder} is a file; name a folder.")
    if not (folder / "config.json").exists():
        return
    before = dataclasses.asdict(Config.read(folder / "config.json"))
    now = dataclasses.asdict(config)
    free = ("data", "test_data", "max_megapixels", "invert_masks")
    if not is_complete(folder):
        free += EVALUATION_SETTINGS + DENSE_SETTINGS
    changes = [
        f"{name}={before[name]} (now {now[name]})" for name in now if before[name] != now[name] and name not in free
    ]
    if changes:
        raise InputError(
            f"--output_dir={folder} holds a run with {', '.join(changes)}; name another folder, or delete it."
        )


def find_detector(folder: Path) -> Path:
    """The detector of a run, or the folder itself if it is one that was copied alone.

    Raises:
        InputError: it is neither, or the run has not ended.
    """
    if is_complete(folder):
        if not (folder / DETECTOR / MODEL).is_file():
            raise InputError(f"{folder / DETECTOR / MODEL} is missing: {COPY_AGAIN}.")
        return folder / DETECTOR
    if (folder / MODEL).is_file() and (folder / "config.json").is_file():
        return folder
    Config.read(folder / "config.json")
    raise InputError(f"The run in {folder} is not complete; run its train_main.py command again to finish it.")


def is_complete(folder: Path) -> bool:
    """Whether the run has ended; its detector is the last thing it writes."""
    return (folder / DETECTOR).is_dir()


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keeps a second process out of a folder, which is made; the lock goes with the process, however it ends.

    Args:
        folder: where the lock's file lies.
        name: of that file; another name is another lock.

    Raises:
        InputError: another process is at work in the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / name, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"Another process is at work in {folder}; wait for it, or name another folder.") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}).") from None
    try:
        yield
    finally:
        lock.release()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader finds all of it or, if the process is killed, what was there before."""
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _move(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which takes `folder`'s place when the block ends well."""
    partial, old = _partial(folder), _partial(folder)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            _move(folder, old)
        _move(partial, folder)
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _partial(path: Path) -> Path:
    """A name beside a path that no other writer has."""
    return path.with_name(f".{uuid.uuid4().hex}.partial")


def _move(source: Path, target: Path) -> None:
    """Renames; on Windows, where a file that somebody reads cannot be replaced, tries again for some seconds."""
    for attempt in range(50):
        try:
            source.replace(target)
        except PermissionError:
            if os.name != "nt" or attempt == 49:
                raise
            time.sleep(0.1)
        else:
            return


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows under their keys, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, buffer.getvalue().encode())
