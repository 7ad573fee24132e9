"""What a run's folder stores about images in addition to their scores: features, thumbnails, labels."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf.errors import InputError
from cutpaste_tf.files import read_arrays, reading, write_arrays
from cutpaste_tf.images import resizing
from cutpaste_tf.images.image_set import ImageSet

THUMBNAILS = 2000  # at most this many training images, for the baseline on raw pixels


class Embeddings(NamedTuple):
    """What evaluation needs to know about images.

    Attributes:
        features: float32 [count, dimensions]. For a patch model, which has too many features to store, the scores of
            the patches, [count, places, places], or nothing, [count, 0].
        thumbnails: uint8 [count, 32, 32, 3]; for training images at most THUMBNAILS, evenly spaced.
        paths: path of each image.
        labels: int32 [count]: 0 normal, 1 anomalous, -1 unknown.
        defects: name of each image's defect.
        hashes: hash of each image's pixels, see `reading.Examples`.
    """

    features: np.ndarray
    thumbnails: np.ndarray
    paths: list[str]
    labels: np.ndarray
    defects: list[str]
    hashes: list[str]


def read(path: Path) -> Embeddings:
    """Reads what `write` wrote.

    Raises:
        InputError: the file is damaged or was written by another version.
    """
    with reading(path, "."):
        values = read_arrays(path)
    if set(values) != set(Embeddings._fields):
        raise InputError(f"{path} was written by another version of cutpaste_tf.")
    counts = {len(array) if array.ndim else -1 for name, array in values.items() if name != "thumbnails"}
    is_finite = values["features"].dtype == np.float32 and np.isfinite(values["features"]).all()
    if len(counts) != 1 or not is_finite or values["thumbnails"].shape[1:] != (32, 32, 3):
        raise InputError(f"{path} is damaged (its arrays do not fit together).")
    lists = {name: [str(value) for value in values[name]] for name in ("paths", "defects", "hashes")}
    return Embeddings(**{**values, **lists})


def write(path: Path, embeddings: Embeddings) -> None:
    """Writes embeddings as .npz, atomically."""
    write_arrays(path, embeddings._asdict())


def describe(features: np.ndarray, images: ImageSet, *, trained: bool = False) -> Embeddings:
    """Combines features with what else is known about images; `trained` means that these are training images."""
    every = math.ceil(len(images) / THUMBNAILS) if trained else 1
    small = resizing.thumbnails(images.examples.images[::every]) if trained else images.thumbnails
    return Embeddings(features, small, images.paths, images.labels, images.defects, list(images.hashes))
