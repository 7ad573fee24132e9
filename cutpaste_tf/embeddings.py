"""Features of a data set, computed once and kept in the run's folder; trying densities then costs seconds.

A kept file is named by a hash of the network's weights, the feature and the images (names, sizes and
times of their files): when one of them changes, the name does, and the file is not found.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf import runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Item


class Embeddings(NamedTuple):
    """What evaluation needs to know of images.

    Attributes:
        features: float32 [count, dimensions]. Of a patch model the scores of the patches, [count, places, places],
            or nothing, [count, 0]: its features are too many to keep.
        thumbnails: uint8 [count, 32, 32, 3].
        paths: of each image.
        labels: int32 [count]: 0 normal, 1 anomalous, -1 unknown.
        defects: name of each image's defect.
    """

    features: np.ndarray
    thumbnails: np.ndarray
    paths: list[str]
    labels: np.ndarray
    defects: list[str]


def fingerprint(model: Path, feature: str, items: Sequence[Item], size: int) -> str:
    """A hash that changes when the weights, the feature, or an image does.

    Args:
        model: file of the network.
        feature: name of the feature, and what else decides what is kept.
        items: the images; of files, the names, sizes and times of change are taken for their content.
        size: that they are resized to, in pixels.
    """
    sha = hashlib.sha256(model.read_bytes())
    sha.update(f"{feature} {size}".encode())
    for item in items:
        sha.update(f"{item.path} {item.label} {item.defect}".encode())
        if isinstance(item.image, bytes):
            sha.update(item.image)
        else:
            stat = item.image.stat()
            sha.update(f"{item.image.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    return sha.hexdigest()


def kept(path: Path, make: Callable[[], Embeddings]) -> Embeddings:
    """Reads a file of embeddings, or makes and writes it."""
    if path.is_file():
        return read(path)
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, made)
    return made


def read(path: Path) -> Embeddings:
    """Reads what `write` wrote.

    Raises:
        InputError: another version wrote the file.
    """
    with np.load(path) as arrays:
        values = dict(arrays)
    if set(values) != set(Embeddings._fields):
        raise InputError(f"{path} was written by another version of cutpaste_tf; train again.")
    lists = {name: [str(value) for value in values[name]] for name in ("paths", "defects")}
    return Embeddings(**{**values, **lists})


def write(path: Path, embeddings: Embeddings) -> None:
    """Writes embeddings as .npz, whole or not at all."""
    runs.write_arrays(path, {name: np.asarray(value) for name, value in embeddings._asdict().items()})
