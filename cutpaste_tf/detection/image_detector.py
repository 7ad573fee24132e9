"""The image model: a density of one feature vector per image (Section 2.3), with GradCAM to localize."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from cutpaste_tf import files, runs
from cutpaste_tf.backend import keras
from cutpaste_tf.density import densities
from cutpaste_tf.density.density import Density
from cutpaste_tf.detection import calibration, image_features
from cutpaste_tf.detection.density_detector import DensityDetector
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.detection.gradcam import GradCam, check_layer
from cutpaste_tf.detection.network import Network
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.base import PATCH_MODEL, only_for
from cutpaste_tf.settings.config import Config


class ImageDetector(DensityDetector):
    """Scores images by the density of their pooled feature.

    Args:
        network: the network from images in [0, 1] to the pooled feature (`build.Networks.feature`), or its file.
        config: configuration of the run; selects feature and density.
        data: the normal images it is fitted to.
        gradcam_layer: layer of the backbone for heat maps; empty: the map that the feature pools.
    """

    description = "an image model"
    stored_as = "embeddings.npz", "features"
    unused_settings = tuple(only_for(Config, PATCH_MODEL))

    def __init__(self, network: keras.Model | Path, config: Config, data: TrainingData, *, gradcam_layer: str = ""):
        super().__init__(config, data)
        self.network, self._layer = Network(network), gradcam_layer

    @functools.cached_property
    def feature(self) -> keras.Model:
        """Network from images in [0, 1] to the feature to score, float32 [count, dimensions]."""
        return self.network.feature(self.config.features.feature)

    @classmethod
    def fit_together(  # noqa: D102
        cls, detectors: Sequence[Self], images: np.ndarray, groups: np.ndarray | None, *, report: Report
    ) -> None:
        features = detectors[0].embed(images, report=report)
        for detector in detectors:
            detector.fit_features(features, groups, detector.regions(images), report=report)

    def fit_features(
        self,
        features: np.ndarray,
        groups: np.ndarray | None = None,
        regions: np.ndarray | None = None,
        *,
        report: Report = no_report,
    ) -> Self:
        """Like `fit`, but takes features float32 [count, dimensions] of normal images, black outside their regions.

        Raises:
            InputError: the density cannot be fitted.
        """
        self.training_features_ = features
        self._take_regions(regions)
        self._density = densities.build(self.config.density).fit(features)
        try:
            self._held_out = -self._density.held_out(features, groups)
        except InputError as error:  # with some of the images left out
            report(f"No threshold can be set: {error}")
            self._held_out = np.empty(0)
        return self

    def _fit_to(self, training: TrainingImages) -> None:
        saved = self._density  # kept, since a run from version 0.2 lacks only the held-out scores
        train = self.training_embeddings()
        if train is None:
            self._held_out = np.empty(0)
            return
        self.fit_features(train.features, training.groups(self.config.density.group_by), report=training.report)
        self._density = self._density if saved is None else saved

    def training_embeddings(self) -> Embeddings | None:  # noqa: D102
        if self._training is None:
            return None
        return self._training.embeddings(self.config.features, self.embedded, needed=self._density is None)

    def _with(self, config: Config, gradcam_layer: str) -> Self:
        result = type(self)(self.network.source, config, self.data, gradcam_layer=gradcam_layer)
        result.network = self.network
        return result

    @classmethod
    def embed_together(cls, detectors: Sequence[Self], images: np.ndarray, *, report: Report) -> list[np.ndarray]:
        """Features float32 [count, dimensions]."""
        return [image_features.embed(detectors[0].feature, images, report=report)] * len(detectors)

    def score_features(self, features: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        """`negative_log_density` of features."""
        del regions  # the images are black outside them
        return self.negative_log_density(features)

    def negative_log_density(self, embedded: np.ndarray) -> np.ndarray:  # noqa: D102
        return -self.density.score_samples(embedded)

    def reduce(self, densities: np.ndarray, regions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores are the negative log densities."""
        del regions
        return densities, None

    def localize(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
        """GradCAM of the anomaly score."""
        return self._gradcam.heat_maps(self.density, images, report=report)

    @functools.cached_property
    def _gradcam(self) -> GradCam:
        return GradCam(self.feature, layer=self._layer)

    def prepare(self) -> None:  # noqa: D102
        if self._layer:
            check_layer(self.feature, self._layer)
        _ = self.feature

    def _save(self, folder: Path) -> None:
        self.network.save(folder / runs.MODEL)
        self.save_density(folder)

    def save_density(self, folder: Path) -> None:  # noqa: D102
        files.write_arrays(folder / runs.DENSITY, self.density.to_arrays())

    def restore(self, folder: Path, held_out: np.ndarray | None, regions: np.ndarray | None = None) -> Self:  # noqa: D102
        calibration.check_shape(held_out, (), folder)
        self._density: Density | None = densities.load(folder / runs.DENSITY, self.config.density)
        self._held_out, self._held_out_regions = held_out, regions
        return self

    def graph(self, *, single: bool) -> Any:  # noqa: D102
        from cutpaste_tf.detection.graphs.images import ImageGraph

        return ImageGraph(self.feature, self.config, self.density, region=self.region, single=single)
