"""The patch model: densities of the features of an image's patches (Sections 2.4 and 4.2, A.5)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from cutpaste_tf import files, runs
from cutpaste_tf.backend import keras
from cutpaste_tf.density import patch_density
from cutpaste_tf.density.feeding import Fitting, feed
from cutpaste_tf.detection import calibration, dense, heat_maps
from cutpaste_tf.detection.cache import FeatureCache
from cutpaste_tf.detection.dense import PatchEmbedder
from cutpaste_tf.detection.density_detector import DensityDetector
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.detection.network import Network
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import Report, track
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.base import IMAGE_MODEL, only_for
from cutpaste_tf.settings.config import Config

# Bytes of patch features scored together: 19 images with 3,249 locations and 512 dimensions, or one larger image.
_TOGETHER = 2**27
NO_GRADCAM = "--gradcam_layer is for image models; a patch model's heat maps come from its patches."


class PatchDetector(DensityDetector):
    """Scores images by their patches: patch scores give the heat map, and a maximum gives the image's score.

    Args:
        network: the network from images in [0, 1] to the pooled feature, or its file.
        config: configuration of the run; selects feature, patches and density.
        data: the normal images it is fitted to.
    """

    description = "a patch model"
    stored_as = "patch_scores.npz", "patch_scores"
    maps_come_with_scores = True
    unused_settings = tuple(only_for(Config, IMAGE_MODEL))

    def __init__(self, network: keras.Model | Path, config: Config, data: TrainingData):
        super().__init__(config, data)
        self.network = Network(network)
        self._is_saved = False  # whether the density is the run's; its held-out scores are then not recomputed

    @functools.cached_property
    def embed_patches(self) -> PatchEmbedder:
        """The embedder of patches, see `dense.function`; built once, since building is slow."""
        return dense.function(self.network.feature(self.config.features.feature), self.size, self.config.features)

    @classmethod
    def fit_together(  # noqa: D102
        cls, detectors: Sequence[Self], images: np.ndarray, groups: np.ndarray | None, *, report: Report
    ) -> None:
        first, count = detectors[0], len(images)
        features = track(first.embed_patches.each(images), count, "Patches of images", report)
        feed([detector._fitting(count, groups, first.regions(images)) for detector in detectors], features)

    def fit_features(
        self, features: np.ndarray, groups: np.ndarray | None = None, regions: np.ndarray | None = None
    ) -> Self:
        """Like `fit`, but takes the features of normal images' patches, float32 [count, locations, dimensions]."""
        feed([self._fitting(len(features), groups, regions)], features)
        return self

    def _fitting(self, count: int, groups: np.ndarray | None, regions: np.ndarray | None) -> Fitting:
        """Like `fit_features`, but takes one image's features at a time, see `feed`."""
        inside = None if regions is None else dense.inside(regions, self.config.features).reshape(count, -1)
        if inside is not None and self.config.density.density_mode == "per_location" and np.any(inside != inside[:1]):
            raise InputError("--density_mode=per_location needs one --region for all images; use shared.")
        density = patch_density.build(self.config.density)
        yield from density.fitting(count, groups, inside)
        self._density, self._held_out = density, self._placed(density.held_out)
        if inside is not None and len(density.scored):
            self._held_out *= inside[density.scored].reshape(self._held_out.shape)
            regions = None if regions is None else regions[density.scored]
        self._take_regions(regions)
        self.training_features_ = np.zeros((count, 0), np.float32)

    def _fit_to(self, training: TrainingImages) -> None:
        images = training.images.examples
        training.report(f"Fitting the density to the patches of {images.note}.")
        self.fit(images.images, training.groups(self.config.density.group_by), report=training.report)
        self._held_out = self._cached_held_out()

    def _cached_held_out(self) -> np.ndarray:
        """The held-out scores, from the cache if it has them, or else by fitting the density."""

        def fitted() -> np.ndarray:
            _ = self.density
            return np.empty(0) if self._held_out is None else self._held_out

        if self.cache is None:
            return fitted()
        key = f"held out {self._cache_key} {sorted(self.data.images.items())}"
        return self.cache.held_out(key, self.how_read, fitted)

    def attach(self, cache: FeatureCache, training: TrainingImages) -> None:  # noqa: D102
        self._is_saved = self._density is not None
        super().attach(cache, training)

    def training_embeddings(self) -> Embeddings | None:  # noqa: D102
        return None if self._training is None else self._training.embeddings(self.config.features, None, needed=False)

    def _with(self, config: Config, gradcam_layer: str) -> Self:
        if gradcam_layer:
            raise InputError(NO_GRADCAM)
        result = type(self)(self.network.source, config, self.data)
        result.network = self.network
        return result

    @property
    def held_out_(self) -> np.ndarray | None:  # noqa: D102
        if self._held_out is None and self._training is not None and not self._is_saved:
            self._held_out = self._cached_held_out()
        return self._held_out

    @classmethod
    def embed_together(cls, detectors: Sequence[Self], images: np.ndarray, *, report: Report) -> list[np.ndarray]:
        """Scores all patches of images uint8 [count, height, width, 3], at least one.

        Returns:
            For each detector, float32 [count, rows, columns]: negative log densities relative to the density's peak,
            which is 0.
        """
        first = detectors[0]
        parts: list[list[np.ndarray]] = []
        buffer, filled = np.empty(0), 0
        every = track(first.embed_patches.each(images), len(images), "Patches of images", report)
        for index, features in enumerate(every, 1):
            if index == 1:
                together = max(1, _TOGETHER // features.nbytes)
                buffer = np.empty((min(len(images), together), *features.shape), np.float32)
            buffer[filled] = features
            filled += 1
            if filled == len(buffer) or index == len(images):
                regions = first.regions(images[index - filled : index])
                parts.append([detector.score_features(buffer[:filled], regions) for detector in detectors])
                filled = 0
        return [np.concatenate(of_detector) for of_detector in zip(*parts, strict=True)]

    def score_features(self, features: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        """Like `embed`, but takes the features of images' patches, float32 [count, locations, dimensions]."""
        scores = self._placed((self.density.peak - self.density.score_samples(features)).astype(np.float32))
        return scores if regions is None else scores * dense.inside(regions, self.config.features)

    def _placed(self, scores: np.ndarray) -> np.ndarray:
        """Scores [count, locations] on the grid of their patches, [count, rows, columns]."""
        return scores.reshape(-1, *dense.places(self.size, self.config.features))

    @property
    def _cache_key(self) -> str:
        # The cache holds patch scores, not features, so the density matters too.
        return f"{self.config.features} {self.config.density}"

    def negative_log_density(self, embedded: np.ndarray) -> np.ndarray:
        """The result of `embed`."""
        return embedded

    def reduce(self, densities: np.ndarray, regions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The maxima of the heat maps or of the patch scores, and the heat maps."""
        config = self.config
        maps = heat_maps.upsample(densities, self.size, config.features, config.heat_maps)
        if regions is not None:
            maps *= regions
        return heat_maps.image_scores(densities, maps, config.heat_maps), maps

    def prepare(self) -> None:  # noqa: D102
        _ = self.embed_patches

    def _save(self, folder: Path) -> None:
        self.network.save(folder / runs.MODEL)
        self.save_density(folder)

    def save_density(self, folder: Path) -> None:  # noqa: D102
        self.density.save(folder)

    def restore(self, folder: Path, held_out: np.ndarray | None, regions: np.ndarray | None = None) -> Self:  # noqa: D102
        calibration.check_shape(held_out, dense.places(self.size, self.config.features), folder)
        with files.reading(folder / runs.DENSITY, f": {files.COPY_AGAIN}.", or_else=" or from another version"):
            self._density = patch_density.build(self.config.density).load(folder)
        self._held_out, self._held_out_regions = held_out, regions
        return self

    def graph(self, *, single: bool) -> Any:  # noqa: D102
        from cutpaste_tf.detection.graphs.patches import PatchGraph

        feature = self.network.feature(self.config.features.feature)
        return PatchGraph(feature, self.config, self.density, region=self.region, single=single)
