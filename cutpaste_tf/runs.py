"""The folder of a run: what lies where, written whole or not at all.

    config.json            the configuration, enough to make the run again
    augmentations.png      what the network is shown
    checkpoint.npz         weights, optimizer state and step, while training
    train_log.csv          loss, accuracy, learning rate, images/s of every epoch
    tensorboard/           the same for TensorBoard
    train_embeddings.npz   features of the training images
    detector/              the result; there once the run is complete
    eval/                  what eval_main.py writes

A name that ends in `.partial` is being written, or was when the process died; nothing reads it.
"""

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf.config import Config
from cutpaste_tf.errors import InputError


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
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir={folder} is a file; name a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--output_dir={folder} cannot be written ({error.strerror}).") from None
    for partial in folder.glob("*.partial"):  # left by a run that was killed while writing
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
    record = {**json.loads(config.to_json()), "train_images_sha256": digest}
    path = folder / "config.json"
    if not path.exists():
        write_whole(path, (json.dumps(record, indent=2) + "\n").encode())
        return
    found, images = read_config(folder)
    if found != config:
        before, now = json.loads(found.to_json()), json.loads(config.to_json())
        changes = ", ".join(f"{name}={before[name]} (now {now[name]})" for name in now if before[name] != now[name])
        raise InputError(f"--output_dir={folder} holds a run with {changes}; name another folder, or delete it.")
    if images != digest:
        raise InputError(f"The training images have changed since the run in {folder} began; name another folder.")


def read_config(folder: Path) -> tuple[Config, str]:
    """The configuration of a run, and the digest of its training images."""
    path = folder / "config.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{folder} is not the folder of a run: it has no config.json.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}).") from None
    return Config.from_mapping({k: v for k, v in record.items() if k != "train_images_sha256"}), record.get(
        "train_images_sha256", ""
    )


def is_complete(folder: Path) -> bool:
    """Whether the run has ended; its detector is the last thing it writes."""
    return (folder / "detector").is_dir()


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
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


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
