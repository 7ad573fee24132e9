"""Scores and heat maps of test images by a complete run: from what its folder keeps, else from its network.

TensorFlow is loaded only where a network has to compute: trying another density on kept features takes seconds.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cutpaste_tf import files, runs
from cutpaste_tf.backend import keras
from cutpaste_tf.density import densities
from cutpaste_tf.density.density import Density
from cutpaste_tf.density.patch_density import PatchDensity
from cutpaste_tf.detection import calibration, dense, embeddings, gradcam, heat_maps, one_class, whole
from cutpaste_tf.detection.dense import PatchEmbedder
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.scored import Scored
from cutpaste_tf.images import reading, sources
from cutpaste_tf.images.reading import Examples, Item
from cutpaste_tf.progress import Report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config


class Scorer:
    """A complete run with the settings that an evaluation gives it.

    Args:
        run_dir: its folder.
        saved: its configuration.
        config: the same with the evaluation's settings.
        train_data: names the training images; read only where the run keeps too little.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets.
        allow_trained: whether test images may be training images as well.
        report: takes a line for the user.

    Attributes:
        data: what is remembered of the training images.

    Raises:
        InputError: the run is not complete, or a file of it is damaged.
    """

    def __init__(
        self,
        run_dir: Path,
        saved: Config,
        config: Config,
        *,
        train_data: str,
        tfds_data_dir: str,
        allow_trained: bool,
        report: Report,
    ):
        self._run_dir, self._saved, self._config = run_dir, saved, config
        self._train_data, self._tfds_data_dir, self._report = train_data, tfds_data_dir, report
        self._allow_trained = allow_trained
        self._detector_dir = runs.find_detector(run_dir)
        self.data = TrainingData.read(self._detector_dir)
        self._settings = dataclasses.replace(config.data, white=self.data.white)

    def score(
        self, items: list[Item], examples: Examples | None, *, keep: bool, localize: bool, gradcam_layer: str
    ) -> Scored:
        """Scores test images.

        Args:
            items: the test images.
            examples: them, where `read_tests` has read them already; else None.
            keep: whether to keep what was computed, and to use what was kept; not of images made up.
            localize: whether heat maps are asked for, which needs `examples`.
            gradcam_layer: see `gradcam.GradCam`; for image models.

        Raises:
            InputError: a test image was trained on, the training images are needed and have changed, or a setting is
                not known to the network.
        """
        config = self._config
        if config.patch_size:
            test = self._made_of_tests(items, examples, self._patch_scores, keep=keep)
            maps = heat_maps.upsample(test.features, config.data.image_size, config.features, config.heat_maps)
            scores = heat_maps.image_scores(test.features, maps, config.heat_maps)
            return Scored(self._train(needed=False), test, scores, maps if localize else None, self._patches_held_out())
        if localize and gradcam_layer:
            gradcam.check_layer(self._feature, gradcam_layer)
        test = self._made_of_tests(items, examples, self._embed, keep=keep)
        as_saved = self._is_density_saved
        train = self._train(needed=not as_saved)
        density = densities.load(self._detector_dir / runs.DENSITY, config.density) if as_saved else None
        held_out = calibration.read_of(self._detector_dir) if as_saved else None
        if held_out is None and train is not None:
            fitted, held_out = one_class.fit_images(train, config.density, report=self._report)
            density = density or fitted
        assert density is not None  # the training images were needed where none is saved
        maps = None
        if localize and examples:
            cam = gradcam.GradCam(self._feature, layer=gradcam_layer)
            maps = cam.heat_maps(density, examples.images, report=self._report)
        return Scored(train, test, -density.score_samples(test.features), maps, held_out)

    def read_tests(self, items: list[Item]) -> Examples:
        """Reads test images as the training images were read.

        Raises:
            InputError: as `reading.read`, or a test image was trained on.
        """
        examples = self._read(items)
        self._check_tests(examples.paths, examples.hashes)
        return examples

    def _check_tests(self, paths: list[str], hashes: Sequence[str]) -> None:
        if not self._allow_trained:
            self.data.refuse(paths, hashes)

    def _train(self, *, needed: bool) -> Embeddings | None:
        """What is known of the training images; computed anew where the kept file is damaged."""
        if not self._config.patch_size and self._config.features != self._saved.features:
            return self._made(self._train_items(), self._read_train, self._embed)
        path = self._run_dir / runs.TRAIN_EMBEDDINGS
        if not path.is_file() and not needed:
            self._report(f"Without {path.name}, which was not copied, there is no Gaussian on pixels to compare with.")
            return None
        try:
            return embeddings.read(path)
        except (InputError, OSError) as error:
            self._report(f"{str(error).rstrip('.')}; it is computed anew from the training images.")
        examples = self._read_train(self._train_items())
        made = embeddings.without_features(examples) if self._config.patch_size else self._embed(examples)
        embeddings.write(path, made)
        return made

    @property
    def _is_density_saved(self) -> bool:
        """Whether the detector's density is the one that is asked for."""
        return (self._config.features, self._config.density) == (self._saved.features, self._saved.density)

    def _read(self, items: list[Item]) -> Examples:
        return reading.read(items, self._config.data.image_size, self._settings, report=self._report)

    def _read_train(self, items: list[Item]) -> Examples:
        examples = self._read(items)
        if TrainingData.of(examples).images != self.data.images:
            raise InputError(
                f"The training images have changed since the run in {self._run_dir} was made; train again."
            )
        return examples

    def _train_items(self) -> list[Item]:
        return sources.list_train(
            self._train_data,
            self._settings,
            trained=self.data.images,
            tfds_data_dir=self._tfds_data_dir,
        )

    def _made_of_tests(
        self,
        items: list[Item],
        examples: Examples | None,
        make: Callable[[Examples], Embeddings],
        *,
        keep: bool,
    ) -> Embeddings:
        """`_made` of test images, which are looked at first, also where what was made of them is kept."""
        if examples is not None:
            return self._made(items, lambda _: examples, make, keep=keep)
        found = self._made(items, self.read_tests, make, keep=keep)
        self._check_tests(found.paths, found.hashes)
        return found

    def _made(
        self,
        items: list[Item],
        read: Callable[[list[Item]], Examples],
        make: Callable[[Examples], Embeddings],
        *,
        keep: bool = True,
    ) -> Embeddings:
        """What `make` gives for images, or what the run's folder keeps of it."""
        config = self._config

        def read_and_make() -> Embeddings:
            found = read(items)
            self._report(f"Computing {config.features.feature} of {found.note}.")
            return make(found)

        if not keep:
            return read_and_make()
        # Scores of patches are kept rather than their features, so that their density counts as well.
        named = f"{config.features} {config.density if config.patch_size else ''}"
        key = embeddings.fingerprint(self._detector_dir / runs.MODEL, named, items, self._how_read)
        path = self._run_dir / runs.EMBEDDINGS / f"{key[:32]}.npz"
        return embeddings.kept(path, read_and_make, self._report)

    @property
    def _how_read(self) -> str:
        """What decides an image's pixels, beside its file: not where it lies, nor which others there are."""
        return str(dataclasses.replace(self._settings, data="", test_data="", test_split=0.0, split_seed=0))

    @functools.cached_property
    def _detector(self) -> Detector:
        return Detector.load(self._detector_dir)

    @property
    def _feature(self) -> keras.Model:
        return self._detector.feature_named(self._config.features.feature)

    def _embed(self, examples: Examples) -> Embeddings:
        return embeddings.describe(whole.embed(self._feature, examples.images, report=self._report), examples)

    def _patch_scores(self, examples: Examples) -> Embeddings:
        density = self._detector.density if self._is_density_saved else self._patches_fitted[0]
        assert not isinstance(density, Density)  # a patch model's is of patches
        scores = one_class.score_patches(self._embed_patches, density, examples.images, report=self._report)
        return embeddings.describe(scores, examples)

    @functools.cached_property
    def _embed_patches(self) -> PatchEmbedder:
        return dense.function(self._feature, self._config.data.image_size, self._config.features)

    @functools.cached_property
    def _patches_fitted(self) -> tuple[PatchDensity, np.ndarray]:
        """The density that is asked for, where it is not the saved one, and what `one_class.fit_patches` adds."""
        normal = self._read_train(self._train_items())
        self._report(f"Fitting the density to the patches of {normal.note}.")
        return one_class.fit_patches(self._embed_patches, normal, self._config.density, report=self._report)

    def _patches_held_out(self) -> np.ndarray | None:
        """The scores of the training images' patches by densities that do not know them."""
        if self._is_density_saved:
            return calibration.read_of(self._detector_dir)
        named = f"held out {self._config.features} {self._config.density} {sorted(self.data.images.items())}"
        key = embeddings.fingerprint(self._detector_dir / runs.MODEL, named, [], self._how_read)
        path = self._run_dir / runs.EMBEDDINGS / f"{key[:32]}.npz"
        return files.kept(path, calibration.read, lambda: self._patches_fitted[1], calibration.write, self._report)
