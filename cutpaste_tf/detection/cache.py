"""A cache of embeddings in a run's folder, so that trying other densities on the same features takes seconds.

File names are hashes of the network's weights, the settings, how images are read, and the content of their files. If
any of these changes, so does the name, and the old file is not used.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cutpaste_tf import files
from cutpaste_tf.detection import calibration, embeddings
from cutpaste_tf.images import regions
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report
from cutpaste_tf.settings.data import DataSettings


class FeatureCache:
    """Cached arrays, one file each.

    Args:
        folder: folder of the cache; created if missing.
        model: file of the network.
    """

    def __init__(self, folder: Path, model: Path, report: Report):
        self._folder, self._model, self._report = folder, model, report

    def embedded(self, images: ImageSet, key: str, embed: Callable[[], np.ndarray]) -> np.ndarray:
        """The result of `embed` for a set of images, from the cache if it has it.

        Args:
            images: the images; on a cache hit, they get their hashes and thumbnails from the cache and are not read.
            key: describes everything else that determines the result.
            embed: computes an array [count, ...].
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
        """Held-out scores of the training images, see `Detector.held_out_`, computed if not cached."""
        return files.cached(self._path(key, settings), calibration.read, make, calibration.write, self._report)

    def _path(self, key: str, settings: DataSettings, images: ImageSet | None = None) -> Path:
        # Settings that determine an image's pixels in addition to its file, but not its location or the other images.
        region = settings.reading.region
        plain = dataclasses.replace(settings.reading, region="")
        how_read = str(
            dataclasses.replace(
                settings, data="", add_normal=(), test_data="", test_split=0.0, split_seed=0, reading=plain
            )
        )
        sha = hashlib.sha256(self._model.read_bytes())
        sha.update(f"{key} {how_read}".encode())
        for item in images.items if images else ():
            sha.update(f"{item.path} {item.label} {item.defect}".encode())
            content = item.image if isinstance(item.image, bytes) else item.image.read_bytes()
            sha.update(hashlib.blake2b(content).digest())
            sha.update(regions.content(str(item.image if isinstance(item.image, Path) else item.path), region))
        return self._folder / f"{sha.hexdigest()[:32]}.npz"
