"""Network and density together: the one thing a user carries away from a run."""

from __future__ import annotations

import dataclasses
import functools
import zipfile
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from cutpaste_tf import files, processes, runs
from cutpaste_tf.backend import keras
from cutpaste_tf.density import densities, patch_density
from cutpaste_tf.density.density import Density
from cutpaste_tf.density.patch_density import PatchDensity
from cutpaste_tf.detection import calibration, dense, one_class, prediction, whole
from cutpaste_tf.detection import heat_maps as upsampling
from cutpaste_tf.detection.calibration import Calibration
from cutpaste_tf.detection.dense import PatchEmbedder
from cutpaste_tf.detection.embeddings import Embeddings, describe, without_features
from cutpaste_tf.detection.gradcam import GradCam
from cutpaste_tf.detection.prediction import Prediction
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.networks import build
from cutpaste_tf.progress import Report, hush
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config


class Detector:
    """Scores images: image -> feature -> log density -> anomaly score.

    A patch model (`config.patch_size`) does so for each patch of an image; the image's score is its heat map's maximum.

    Args:
        network: from images in [0, 1] to the pooled feature (`build.Networks.feature`).
        density: fitted to the features of the normal training images, or of their patches.
        config: the configuration of the run that made them; says which feature is meant.
        held_out: scores of normal images, or of their patches, that the density does not know, see `calibration.of`.
        white: value of files with more than 8 bits that becomes 255, see `TrainingData`.

    Attributes:
        feature: network from images in [0, 1] to that feature.
        how_read: how files become images for it.
    """

    def __init__(
        self,
        network: keras.Model,
        density: Density | PatchDensity,
        config: Config,
        held_out: np.ndarray | None = None,
        white: int = 255,
    ):
        self.feature = build.feature_model(network, config.features.feature)
        self.density = density
        self.config, self._given = config.resolved(), config
        self._network = network
        self.held_out = held_out
        self.how_read = dataclasses.replace(self.config.data, white=white)
        self._gradcams: dict[str, GradCam] = {}

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """How normal images score, which gives threshold and p-values; None where no such scores are kept."""
        return calibration.of(self.held_out, self.config)

    def calibrate(self, images: np.ndarray) -> None:
        """Lets other normal images give threshold and p-values, in place of the training images.

        Args:
            images: RGB, uint8 [count, height, width, 3], which the density was not fitted to.
        """
        images = self.resized(images)
        self.held_out = self.patch_scores(images) if self.config.patch_size else self.score(images)
        self.__dict__.pop("calibration", None)

    def feature_named(self, name: str) -> keras.Model:
        """The network to another feature than the run's, see `build.feature_model`."""
        return build.feature_model(self._network, name)

    def predict(
        self, image: np.ndarray | str | Path, *, heat_map: bool = False, false_alarm_rate: float = 0.0
    ) -> Prediction:
        """All that the detector says of one image, as `predict_main.py` does.

        Args:
            image: RGB, uint8 [height, width, 3] of any size; or a file, which is read as the training images were.
            heat_map: whether to give the heat map as well.
            false_alarm_rate: of normal images that may be called anomalous; 0: the run's, see `DecisionSettings`.

        Raises:
            InputError: the file cannot be read, the array is of another shape or type, or the rate is less than the
                normal images can tell.
        """
        pixels = image if isinstance(image, np.ndarray) else reading.read_pixels(Path(image), self.how_read)
        settings = self.config.replaced(false_alarm_rate=false_alarm_rate) if false_alarm_rate else self.config
        scores, maps = self.score_and_localize(self.resized(pixels[None]), heat_maps=heat_map)
        size = (pixels.shape[1], pixels.shape[0])
        (found,) = prediction.of(scores, maps, [size], self.calibration, settings.decision)
        return found if heat_map else found._replace(heat_map=None)

    def score(self, images: np.ndarray) -> np.ndarray:
        """Anomaly scores float64 [count], higher = more anomalous, of RGB images uint8 [count, height, width, 3]."""
        return self.score_and_localize(self.resized(images), heat_maps=False)[0]

    def score_and_localize(self, images: np.ndarray, *, heat_maps: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores of RGB images uint8 [count, side, side, 3], and their heat maps.

        A patch model's scores come from its heat maps, which are given in any case; an image model's, by GradCAM, only
        where they are asked for.

        Returns:
            float64 [count]; float32 [count, side, side], or None.
        """
        if self.config.patch_size:
            scores = self.patch_scores(images)
            maps = self._upsampled(scores)
            return upsampling.image_scores(scores, maps, self.config.heat_maps), maps
        scores = -self._image_density.score_samples(whole.embed(self.feature, images))
        return scores, self.heat_maps(images) if heat_maps else None

    def patch_scores(self, images: np.ndarray) -> np.ndarray:
        """Anomaly scores of patches, see `one_class.score_patches`; for a patch model."""
        if isinstance(self.density, Density):
            raise TypeError("an image model has no scores of patches")
        return one_class.score_patches(self.embed_patches, self.density, images)

    def heat_maps(self, images: np.ndarray, *, layer: str = "") -> np.ndarray:
        """Heat maps float32 [count, side, side] of RGB images: of patches, or by GradCAM.

        Args:
            images: uint8 [count, height, width, 3], resized to the detector's side, which the maps have.
            layer: for GradCAM, see `gradcam.GradCam`.
        """
        images = self.resized(images)
        if self.config.patch_size:
            return self._upsampled(self.patch_scores(images))
        if layer not in self._gradcams:
            self._gradcams[layer] = GradCam(self.feature, layer=layer)
        return self._gradcams[layer].heat_maps(self._image_density, images)

    @functools.cached_property
    def embed_patches(self) -> PatchEmbedder:
        """What makes the features of patches, see `dense.function`; made once, since that takes a while."""
        return dense.function(self.feature, self.config.data.image_size, self.config.features)

    def resized(self, images: np.ndarray) -> np.ndarray:
        """RGB images uint8 [count, height, width, 3] at the detector's side, as those that it learnt from.

        Raises:
            InputError: they are of another shape or type.
        """
        side = self.config.data.image_size
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not all(images.shape[1:]):
            raise InputError(
                f"an image is {images.dtype} {list(images.shape[1:])}; expected RGB, uint8 [height, width, 3]"
            )
        if images.shape[1:3] == (side, side):
            return images
        return np.stack([np.asarray(resize(Image.fromarray(image), side, side)) for image in images])

    def _upsampled(self, scores: np.ndarray) -> np.ndarray:
        config = self.config
        return upsampling.upsample(scores, config.data.image_size, config.features, config.heat_maps)

    @property
    def _image_density(self) -> Density:
        if not isinstance(self.density, Density):
            raise TypeError("a patch model has no density of whole images")
        return self.density

    def save(self, folder: Path, data: TrainingData) -> None:
        """Writes the folder, whole or not at all: all that a detector needs."""
        with files.whole_folder(folder) as partial:
            self._network.save(partial / runs.MODEL)
            if isinstance(self.density, Density):
                files.write_arrays(partial / runs.DENSITY, self.density.to_arrays())
            else:
                self.density.save(partial)
            if self.held_out is not None:
                calibration.write(partial / runs.CALIBRATION, self.held_out)
            data.write(partial)
            (partial / "config.json").write_text(self._given.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads the detector of a complete run, or one that was copied from it.

        Raises:
            InputError: the folder is missing or holds no detector, or a file of it is damaged.
        """
        folder = Path(folder)
        folder = folder / runs.DETECTOR if runs.is_complete(folder) else folder
        if not (folder / runs.MODEL).is_file():
            mend = "name the run that the export is of" if runs.is_export(folder) else "run train_main.py until it ends"
            raise InputError(f"{folder} holds no detector: {mend}, then try again.")
        given, white = Config.read(folder / "config.json"), TrainingData.read(folder).white
        network, held_out = _load_network(folder / runs.MODEL), calibration.read_of(folder)
        config = given.resolved()
        if not config.patch_size:
            return cls(network, densities.load(folder / runs.DENSITY, config.density), given, held_out, white)
        try:
            return cls(network, patch_density.build(config.density).load(folder), given, held_out, white)
        except files.DAMAGE as error:
            said = f"The density in {folder} is damaged or of another version ({files.damage(error)})"
            raise InputError(f"{said}: {files.COPY_AGAIN}.") from None


def _load_network(path: Path) -> keras.Model:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"its part {damaged} does not match its checksum")
        return keras.models.load_model(path, compile=False)  # pyright: ignore[reportReturnType]
    except Exception as error:  # of zip, JSON, HDF5 or Keras, whichever part it is
        if processes.is_loss(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}): {files.COPY_AGAIN}.") from None


def fit(
    network: keras.Model, examples: Examples, config: Config, *, report: Report = hush
) -> tuple[Detector, Embeddings]:
    """Fits the density to the unaugmented training images.

    Args:
        network: as in `Detector`.
        examples: normal images at the side that the configuration says.
        config: of the run.
        report: takes a line for the user.

    Returns:
        The detector; and what is kept of the training images, of a patch model without features, which are too many.
    """
    given, config = config, config.resolved()
    feature = build.feature_model(network, config.features.feature)
    if config.patch_size:
        embed_patches = dense.function(feature, config.data.image_size, config.features)
        of_patches, held_out = one_class.fit_patches(embed_patches, examples, config.density, report=report)
        return Detector(network, of_patches, given, held_out, examples.white), without_features(examples)
    found = describe(whole.embed(feature, examples.images, report=report), examples, trained=True)
    density, held_out = one_class.fit_images(found, config.density, report=report)
    return Detector(network, density, given, held_out, examples.white), found
