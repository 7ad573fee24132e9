"""Features of whole images; dense.py computes those of patches."""

from __future__ import annotations

import math

import numpy as np

from cutpaste_tf import arrays, devices
from cutpaste_tf.backend import keras
from cutpaste_tf.progress import Report, no_report, track
from cutpaste_tf.settings.sizes import Size

# Pixels that go through a network at a time (16 images of 256 px), and bytes of a device's memory for each of them if
# its memory is known and large.
_PIXELS, _BYTES = 2**20, 2**12


def embed(feature: keras.Model, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
    """Features float32 [count, dimensions] of unaugmented images uint8 [count, height, width, 3]; in a file if many."""
    size = batch_size(images.shape[1:3])
    embedded, start = np.empty((0, 0), np.float32), 0
    for batch in track(arrays.batches(images, size), -(-len(images) // size), "Batches of images", report):
        features = devices.outputs(feature, np.divide(batch, np.float32(255)))
        if not start:
            embedded = arrays.allocate(len(images), (features.shape[1],), np.float32)
        embedded[start : start + len(batch)] = features
        arrays.release(embedded)
        start += len(batch)
    return embedded


def batch_size(size: Size) -> int:
    """Number of images of a size (height, width) that go through a network at a time."""
    pixels = max(_PIXELS, devices.memory() // _BYTES) * max(1, len(devices.names()))
    return max(1, pixels // math.prod(size))
