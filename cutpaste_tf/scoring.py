"""Scores and heat maps of test images by a complete run: from what its folder keeps, else from its network.

Imports TensorFlow only where a network has to compute: trying another density on kept features takes seconds.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cutpaste_tf import datasets, embeddings, images, localization, quiet_start, runs
from cutpaste_tf import density as densities
from cutpaste_tf.config import Config
from cutpaste_tf.density import Density
from cutpaste_tf.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples, Item

if TYPE_CHECKING:
    import keras

    from cutpaste_tf.detector import Detector

# What of an evaluation's settings decides a patch model's scores; the rest decides how they become a heat map.
_PATCH_SETTINGS = ("feature", "extract_size", "stride", "dense", "resolved_density_mode", "l2_normalize", "reg_covar")


class Scored(NamedTuple):
    """What scoring found.

    Attributes:
        train: the normal training images.
        test: the test images; `features` are the patches' scores, for a patch model.
        scores: anomaly score of each test image, float64 [count], higher = more anomalous.
        maps: heat maps float32 [count, side, side], or None.
    """

    train: Embeddings
    test: Embeddings
    scores: np.ndarray
    maps: np.ndarray | None


class Scorer:
    """A complete run with the settings that an evaluation gives it.

    Args:
        run_dir: its folder.
        saved: its configuration.
        config: the same with the evaluation's settings.
        train_location: what `config.data` stands for; read only where the run keeps too little.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets.
        report: takes a line for the user.
    """

    def __init__(
        self,
        run_dir: Path,
        saved: Config,
        config: Config,
        train_location: str | Path,
        tfds_data_dir: str,
        report: Callable[[str], None],
    ):
        self._run_dir, self._saved, self._config = run_dir, saved, config
        self._train_location, self._tfds_data_dir, self._report = train_location, tfds_data_dir, report

    def score(
        self, items: list[Item], examples: Examples | None, *, keep: bool, heat_maps: bool, gradcam_layer: str
    ) -> Scored:
        """Scores test images.

        Args:
            items: the test images.
            examples: them, where they are read already; else None.
            keep: whether to keep what was computed, and to use what was kept; not of images made up.
            heat_maps: whether heat maps are asked for, which needs `examples`.
            gradcam_layer: see `gradcam.GradCam`; for image models.

        Raises:
            InputError: the training images are needed and have changed, or a setting is not known to the network.
        """
        if self._config.patch_size:
            train = embeddings.read(self._run_dir / runs.TRAIN_EMBEDDINGS)
            test = self._made(items, examples, self._patch_scores, keep=keep)
            maps = localization.upsample(test.features, self._config)
            scores = localization.image_scores(test.features, maps, self._config)
            return Scored(train, test, scores, maps if heat_maps else None)
        if heat_maps and gradcam_layer:
            self._check_layer(gradcam_layer)
        test = self._made(items, examples, self._embed, keep=keep)
        if self._config.feature == self._saved.feature:
            train = embeddings.read(self._run_dir / runs.TRAIN_EMBEDDINGS)
        else:
            train = self._made(self._train_items(), None, self._embed_train)
        density = densities.build(self._config)
        if self._config == self._saved:
            with np.load(self._run_dir / runs.DETECTOR / runs.DENSITY) as arrays:
                density.restore(dict(arrays))
        else:
            density.fit(train.features)
        maps = self._gradcam(density, examples.images, gradcam_layer) if heat_maps and examples else None
        return Scored(train, test, -density.score_samples(test.features), maps)

    def _train_items(self) -> list[Item]:
        return datasets.list_train(self._train_location or self._config.data, tfds_data_dir=self._tfds_data_dir)

    def _made(
        self,
        items: list[Item],
        examples: Examples | None,
        make: Callable[[Examples], Embeddings],
        *,
        keep: bool = True,
    ) -> Embeddings:
        """What `make` gives for images, or what the run's folder keeps of it."""
        config = self._config

        def read_and_make() -> Embeddings:
            found = examples or images.read(items, config.image_size)
            self._report(f"Computing {config.feature} of {found.note}.")
            return make(found)

        if not keep:
            return read_and_make()
        named = config.feature
        if config.patch_size:
            named = " ".join(f"{name}={getattr(config, name)}" for name in _PATCH_SETTINGS)
        model = self._run_dir / runs.DETECTOR / runs.MODEL
        key = embeddings.fingerprint(model, named, items, config.image_size)
        return embeddings.kept(self._run_dir / runs.EMBEDDINGS / f"{key[:32]}.npz", read_and_make)

    def _check_unchanged(self, examples: Examples) -> None:
        if not runs.has_digest(self._run_dir, examples.digest):
            raise InputError(
                f"The training images have changed since the run in {self._run_dir} was made; train again."
            )

    def _embed_train(self, examples: Examples) -> Embeddings:
        self._check_unchanged(examples)
        return self._embed(examples)

    @functools.cached_property
    def _detector(self) -> "Detector":
        with quiet_start():
            from cutpaste_tf.detector import Detector

        return Detector.load(self._run_dir / runs.DETECTOR)

    @property
    def _feature(self) -> "keras.Model":
        return self._detector.feature_named(self._config.feature)

    def _embed(self, examples: Examples) -> Embeddings:
        feature = self._feature
        from cutpaste_tf import detector

        return detector.embed_examples(feature, examples)

    def _patch_scores(self, examples: Examples) -> Embeddings:
        config, feature, density = self._config, self._feature, self._detector.density
        from cutpaste_tf import dense, detector

        embed_patches = dense.function(feature, config)
        if any(getattr(config, name) != getattr(self._saved, name) for name in _PATCH_SETTINGS):
            normal = images.read(self._train_items(), config.image_size)
            self._check_unchanged(normal)
            self._report(f"Fitting the density to the patches of {normal.note}.")
            density = detector.fit_patches(embed_patches, normal.images, config, report=self._report)
        scores = detector.score_patches(embed_patches, density, examples.images, config, report=self._report)
        return detector.describe(scores, examples)

    def _check_layer(self, layer: str) -> None:
        feature = self._feature
        from cutpaste_tf import gradcam

        gradcam.check_layer(feature, layer)

    def _gradcam(self, density: Density, pictures: np.ndarray, layer: str) -> np.ndarray:
        feature = self._feature
        from cutpaste_tf import gradcam

        return gradcam.GradCam(feature, layer=layer).heat_maps(density, pictures)
