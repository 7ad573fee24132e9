"""A detector of one feature and one density, of whole images or of patches; combinations have several."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from cutpaste_tf.detection.cache import FeatureCache
from cutpaste_tf.detection.detector import FittedDetector
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config


class DensityDetector(FittedDetector):
    """A network and a density; the density may be fitted when it is first needed.

    Several that differ only in their densities can be fitted and score together, so that the network sees an image
    once, with the same results to the last bit.

    Attributes:
        density: the fitted density, with `score_samples`.
    """

    def __init__(self, config: Config, data: TrainingData):
        super().__init__(config, data)
        self._density: Any = None
        self._training: TrainingImages | None = None  # the images to fit to

    @classmethod
    @abc.abstractmethod
    def fit_together(
        cls, detectors: Sequence[Any], images: np.ndarray, groups: np.ndarray | None, *, report: Report
    ) -> None:
        """`fit` for each of some detectors with the same network and `embedding`."""

    @classmethod
    @abc.abstractmethod
    def embed_together(cls, detectors: Sequence[Any], images: np.ndarray, *, report: Report) -> list[np.ndarray]:
        """`embed` for each of some detectors with the same network and `embedding`."""

    @property
    def embedding(self) -> Hashable:
        """What determines the network's features of an image, apart from the network."""
        return type(self), self.config.features

    def fit(self, images: np.ndarray, groups: np.ndarray | None = None, *, report: Report = no_report) -> Self:  # noqa: D102
        self.fit_together([self], images, groups, report=report)
        return self

    def embed(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:  # noqa: D102
        return self.embed_together([self], images, report=report)[0]

    @abc.abstractmethod
    def fit_features(
        self, features: np.ndarray, groups: np.ndarray | None = None, regions: np.ndarray | None = None
    ) -> Self:
        """Like `fit`, but takes the features of normal images.

        Args:
            features: float32 [count, ..., dimensions].
            groups: as for `fit`.
            regions: regions of the images, bool [count, height, width]; None if everything counts.
        """

    @abc.abstractmethod
    def score_features(self, features: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        """`negative_log_density` of images, from their features; `regions` as for `fit_features`."""

    @abc.abstractmethod
    def _fit_to(self, training: TrainingImages) -> None:
        """Fits to a run's training images, using what is cached."""

    @abc.abstractmethod
    def save_density(self, folder: Path) -> None:
        """Writes the density; `restore` reads it."""

    def attach(self, cache: FeatureCache, training: TrainingImages) -> None:  # noqa: D102
        self.cache, self._training = cache, training

    def configured(self, config: Config, *, gradcam_layer: str = "") -> Self:  # noqa: D102
        result = self._with(config, gradcam_layer)
        result._held_out_regions = self._held_out_regions
        if (result.config.features, result.config.density) == (self.config.features, self.config.density):
            result._density, result._held_out = self._density, self._held_out
        return result

    @abc.abstractmethod
    def _with(self, config: Config, gradcam_layer: str) -> Self:
        """The same network with other settings, not yet fitted."""

    @property
    def density(self) -> Any:  # noqa: D102
        if self._density is None and self._training is not None:
            self._fit_to(self._training)
        return self._density

    @property
    def held_out_(self) -> np.ndarray | None:  # noqa: D102
        if self._held_out is None and self._training is not None:
            self._fit_to(self._training)
        return self._held_out
