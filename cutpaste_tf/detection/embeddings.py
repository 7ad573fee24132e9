"""Features of a data set, computed once and kept in the run's folder; trying densities then costs seconds.

A kept file is named by a hash of the network's weights, the feature, how images are read and their files' content:
when one of them changes, the name does, and the file is not found.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf import files
from cutpaste_tf.errors import InputError, NoRoomError
from cutpaste_tf.files import DAMAGE, damage, read_arrays, write_arrays
from cutpaste_tf.images.reading import Examples, Item
from cutpaste_tf.images.resizing import thumbnails
from cutpaste_tf.progress import Report

THUMBNAILS = 2000  # as many training images at most say what raw pixels would do


class Embeddings(NamedTuple):
    """What evaluation needs to know of images.

    Attributes:
        features: float32 [count, dimensions]. Of a patch model the scores of the patches, [count, places, places],
            or nothing, [count, 0]: its features are too many to keep.
        thumbnails: uint8 [count, 32, 32, 3]; of training images THUMBNAILS at most, in even steps.
        paths: of each image.
        labels: int32 [count]: 0 normal, 1 anomalous, -1 unknown.
        defects: name of each image's defect.
        hashes: of each image's pixels, see `reading.Examples`.
    """

    features: np.ndarray
    thumbnails: np.ndarray
    paths: list[str]
    labels: np.ndarray
    defects: list[str]
    hashes: list[str]


def fingerprint(model: Path, feature: str, items: Sequence[Item], how: str) -> str:
    """A hash that changes when the weights, the feature, or an image does.

    Args:
        model: file of the network.
        feature: name of the feature, and what else decides what is kept.
        items: the images.
        how: they are read, as their size.
    """
    sha = hashlib.sha256(model.read_bytes())
    sha.update(f"{feature} {how}".encode())
    for item in items:
        sha.update(f"{item.path} {item.label} {item.defect}".encode())
        content = item.image if isinstance(item.image, bytes) else item.image.read_bytes()
        sha.update(hashlib.blake2b(content).digest())
    return sha.hexdigest()


def kept(path: Path, make: Callable[[], Embeddings], report: Report) -> Embeddings:
    """Reads a file of embeddings, or makes and writes it, also where it is damaged."""
    return files.kept(path, read, make, write, report)


def read(path: Path) -> Embeddings:
    """Reads what `write` wrote.

    Raises:
        InputError: the file is damaged, or written by another version.
    """
    try:
        values = read_arrays(path)
    except NoRoomError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} is damaged ({damage(error)}).") from None
    if set(values) != set(Embeddings._fields):
        raise InputError(f"{path} was written by another version of cutpaste_tf.")
    lists = {name: [str(value) for value in values[name]] for name in ("paths", "defects", "hashes")}
    return Embeddings(**{**values, **lists})


def write(path: Path, embeddings: Embeddings) -> None:
    """Writes embeddings as .npz, whole or not at all."""
    write_arrays(path, embeddings._asdict())


def describe(features: np.ndarray, examples: Examples, *, trained: bool = False) -> Embeddings:
    """Puts features and what else is known of examples together; `trained`: these are training images."""
    every = math.ceil(len(examples.images) / THUMBNAILS) if trained else 1
    return Embeddings(
        features,
        thumbnails(examples.images[::every]),
        examples.paths,
        examples.labels,
        examples.defects,
        list(examples.hashes),
    )


def without_features(examples: Examples) -> Embeddings:
    """What is known of a patch model's training images, whose features are too many to keep."""
    return describe(np.zeros((len(examples.images), 0), np.float32), examples, trained=True)
