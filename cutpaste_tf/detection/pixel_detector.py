"""The baseline without a learned representation: a Gaussian on raw pixels."""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from cutpaste_tf import arrays
from cutpaste_tf.density import held_out
from cutpaste_tf.density.low_rank import LowRankGaussian
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.embeddings import THUMBNAILS
from cutpaste_tf.images import resizing
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config

SIDE = 32
_RIDGE = 1e-6


class PixelDetector(Detector):
    """Scores images by the density of their pixels at a size of 32 x 32."""

    description = "a Gaussian on 32 x 32 pixels"

    def __init__(self, config: Config, data: TrainingData):
        super().__init__(config, data)
        self._density = LowRankGaussian(l2_normalize=False, reg_covar=_RIDGE)
        self._pixels = np.empty((0, 0))

    def configured(self, config: Config, *, gradcam_layer: str = "") -> Self:
        """The same detector, since settings affect only what is called anomalous."""
        del gradcam_layer
        return self._copy_with(config)

    @property
    def held_out_(self) -> np.ndarray | None:  # noqa: D102
        if self._held_out is None and len(self._pixels) > 1:
            self._held_out = -held_out.gaussian(self._pixels, _RIDGE)[0]
        return self._held_out

    def fit(self, images: np.ndarray, groups: np.ndarray | None = None, *, report: Report = no_report) -> Self:
        """Fits to normal images uint8 [count, height, width, 3], or to an evenly spaced subset if there are many.

        Args:
            images: the images.
            groups: unused.
            report: unused.
        """
        del groups, report
        self._pixels = self.embed(images[:: math.ceil(len(images) / THUMBNAILS)])
        self._density.fit(self._pixels)
        return self

    def embed(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
        """Pixels float64 [count, 3072] in [0, 1] of images uint8 of any size."""
        del report
        small = images if images.shape[1:3] == (SIDE, SIDE) else resizing.thumbnails(images, SIDE)
        return np.concatenate([part.reshape(len(part), -1) / 255 for part in arrays.batches(small, 1000)])

    def negative_log_density(self, embedded: np.ndarray) -> np.ndarray:  # noqa: D102
        return -self._density.score_samples(embedded)

    def reduce(self, densities: np.ndarray, regions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores are the negative log densities."""
        del regions
        return densities, None
