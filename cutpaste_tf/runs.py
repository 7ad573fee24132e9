"""The folder of a run: what lies where, written whole or not at all.

    .lock                  held by the process at work
    config.json            the configuration, enough to make the run again
    train_images.sha256    of the training images: a resumed run must find the same ones
    augmentations.png      what the network is shown
    checkpoint.npz         weights, optimizer state and step, while training
    train_log.csv          loss, accuracy, learning rate, images/s of every epoch
    tensorboard/           the same for TensorBoard
    train_embeddings.npz   features of the training images
    detector/              the result; there once the run is complete
    embeddings/            features that eval_main.py keeps, see embeddings.py
    eval/                  what eval_main.py writes; eval_NAME=VALUE/ where settings were given anew,
                           eval_SHAPE_FILL/ for synthetic anomalies

A name that ends in `.partial` is being written, or was when the process died; nothing reads it.
"""

import contextlib
import csv
import dataclasses
import fcntl
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf.config import DENSE_SETTINGS, EVALUATION_SETTINGS, Config
from cutpaste_tf.errors import InputError

CHECKPOINT = "checkpoint.npz"
DETECTOR = "detector"
MODEL = "model.keras"  # in the detector
DENSITY = "density.npz"  # in the detector
TRAIN_EMBEDDINGS = "train_embeddings.npz"
EMBEDDINGS = "embeddings"
EVAL = "eval"


def open_run(folder: Path, config: Config, digest: str) -> None:
    """Claims a folder for a run, or finds that it is this run's already.

    Args:
        folder: made where it is missing.
        config: saved in it.
        digest: of the training images; a resumed run must find the same ones.

    Raises:
        InputError: the folder cannot be written, belongs to another configuration, or the images
            have changed since.
    """
    check(folder, config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--output_dir={folder} cannot be written ({error.strerror}).") from None
    path = folder / "config.json"
    if not path.exists():
        write_whole(folder / "train_images.sha256", f"{digest}\n".encode())
    elif not has_digest(folder, digest):
        raise InputError(f"The training images have changed since the run in {folder} began; name another folder.")
    if not path.exists() or Config.read(path) != config:
        write_whole(path, config.to_json().encode())
    if is_complete(folder):
        (folder / CHECKPOINT).unlink(missing_ok=True)  # left by a run that was killed at its very end


def check(folder: Path, config: Config) -> None:
    """Sees whether a folder is free for a run, or is this run's already; writes nothing.

    The test data may be named anew at any time, density and feature until the run is complete.

    Raises:
        InputError: the folder is a file, or belongs to another configuration.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir={folder} is a file; name a folder.")
    if not (folder / "config.json").exists():
        return
    before = dataclasses.asdict(Config.read(folder / "config.json"))
    now = dataclasses.asdict(config)
    free = ("test_data",) if is_complete(folder) else (*EVALUATION_SETTINGS, *DENSE_SETTINGS, "test_data")
    changes = [
        f"{name}={before[name]} (now {now[name]})" for name in now if before[name] != now[name] and name not in free
    ]
    if changes:
        raise InputError(
            f"--output_dir={folder} holds a run with {', '.join(changes)}; name another folder, or delete it."
        )


def has_digest(folder: Path, digest: str) -> bool:
    """Whether the run was made from the training images of that digest."""
    path = folder / "train_images.sha256"
    return path.exists() and path.read_text().strip() == digest


def is_complete(folder: Path) -> bool:
    """Whether the run has ended; its detector is the last thing it writes."""
    return (folder / DETECTOR).is_dir()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a run; the lock goes with the process, however it ends.

    Raises:
        InputError: another process is at work in the folder.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Another process is at work in {folder}; wait for it, or name another folder.") from None
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader finds all of it or, if the process is killed, what was there before."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which takes `folder`'s place when the block ends well."""
    partial = folder.with_name(folder.name + ".partial")
    old = folder.with_name(folder.name + ".old.partial")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows under the first one's keys, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, buffer.getvalue().encode())
