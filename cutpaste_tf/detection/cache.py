"""What detectors embed images as, kept in a run's folder; trying other densities on the same features takes seconds.

A file is named by a hash of the network's weights, the settings, how images are read and their files' content: when one
of them changes, the name does, and the file is not found.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cutpaste_tf import files
from cutpaste_tf.detection import calibration, embeddings
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report
from cutpaste_tf.settings.data import DataSettings


class FeatureCache:
    """Files in a folder.

    Args:
        folder: of the files, made where it is missing.
        model: file of the network.
    """

    def __init__(self, folder: Path, model: Path, report: Report):
        self._folder, self._model, self._report = folder, model, report

    def embedded(self, images: ImageSet, key: str, embed: Callable[[], np.ndarray]) -> np.ndarray:
        """What `embed` gives for a set of images; it is called where the cache has nothing.

        Args:
            images: which learn their hashes and thumbnails from the cache, and are not read.
            key: says what else decides the result.
            embed: gives an array [count, ...].
        """
        path = self._path(key, images.settings, images)
        stored = files.cached(
            path,
            embeddings.read,
            lambda: embeddings.describe(embed(), images),
            embeddings.write,
            self._report,
        )
        images.recall(stored.hashes, stored.thumbnails)
        return stored.features

    def held_out(self, key: str, settings: DataSettings, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Scores of training images, see `Detector.held_out_`; made where the cache has none."""
        return files.cached(self._path(key, settings), calibration.read, make, calibration.write, self._report)

    def _path(self, key: str, settings: DataSettings, images: ImageSet | None = None) -> Path:
        # What decides an image's pixels, beside its file: not where it lies, nor which others there are.
        how_read = str(dataclasses.replace(settings, data="", test_data="", test_split=0.0, split_seed=0))
        sha = hashlib.sha256(self._model.read_bytes())
        sha.update(f"{key} {how_read}".encode())
        for item in images.items if images else ():
            sha.update(f"{item.path} {item.label} {item.defect}".encode())
            content = item.image if isinstance(item.image, bytes) else item.image.read_bytes()
            sha.update(hashlib.blake2b(content).digest())
        return self._folder / f"{sha.hexdigest()[:32]}.npz"
