"""What scores images: the one interface of models of whole images, of patches, of ensembles and of exports.

As in scikit-learn, `fit` takes normal images and returns the detector, and names of what was learned end in `_`.
Scores are negative log densities: higher = more anomalous. Scoring has three steps, so that the first, which takes the
network, can be cached, and so that an ensemble is the mean of the second:

    images -> `embed` -> `negative_log_density` -> `reduce` -> scores of images, and heat maps

A new kind of detector is a subclass with these methods, `fit` and `save`, and an entry in `loading.py`.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from cutpaste_tf import runs
from cutpaste_tf.detection import calibration, prediction
from cutpaste_tf.detection.cache import FeatureCache
from cutpaste_tf.detection.calibration import Calibration, Decisions
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.detection.prediction import Prediction
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import whole_folder
from cutpaste_tf.images import reading
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import DataSettings


class Scores(NamedTuple):
    """Scores of images.

    Attributes:
        scores: float64 [count], higher = more anomalous.
        heat_maps: float32 [count, side, side], 0 and above; None where they were not asked for.
        embedded: what `embed` gave; None where it stays inside, as in an export.
    """

    scores: np.ndarray
    heat_maps: np.ndarray | None
    embedded: np.ndarray | None = None


class Detector(abc.ABC):
    """Scores images.

    Args:
        config: of the run that made it; open values are filled in.
        data: the normal images that it is fitted to, by name and hash; `white` says how files are read.

    Attributes:
        config: resolved.
        given: the configuration as it was given, which is saved.
        given_threshold: above which a score is anomalous; None: the threshold of the false alarm rate.
        cache: keeps what `embed` gives for files; None: nothing is kept.
        description: what it is, for the user.
        stored_as: file and name of the array by which an evaluation stores what `embed` gives; empty: it does not.
        maps_come_with_scores: whether heat maps are made in any case, and share one scale.
        unused_settings: names of settings that this kind of detector has no use for.
        threshold_is_fixed: whether other images and rates cannot give the threshold.
    """

    description: str
    stored_as: tuple[str, str] = ("", "")
    maps_come_with_scores: bool = False
    unused_settings: tuple[str, ...] = ()
    threshold_is_fixed: bool = False

    def __init__(self, config: Config, data: TrainingData):
        self.given, self.config, self.data = config, config.resolved(), data
        self.given_threshold: float | None = None
        self.cache: FeatureCache | None = None
        self._held_out: np.ndarray | None = None

    @abc.abstractmethod
    def embed(self, images: np.ndarray, *, report: Report = no_report) -> Any:
        """What images uint8 [count, side, side, 3] are scored by: an array [count, ...], small enough to be kept."""

    @abc.abstractmethod
    def negative_log_density(self, embedded: Any) -> np.ndarray:
        """Of images, float64 [count], or of their patches, float32 [count, places, places]; of what `embed` gives."""

    @abc.abstractmethod
    def reduce(self, densities: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores float64 [count] and, if `maps_come_with_scores`, heat maps float32 [count, side, side].

        Args:
            densities: of `negative_log_density`.
        """

    def localize(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
        """Heat maps float32 [count, side, side] of images uint8 [count, side, side, 3], where scores have none."""
        raise InputError(f"{self.description} has no heat maps; leave out --heat_maps.")

    def prepare(self) -> None:  # noqa: B027  most have nothing to load
        """Loads what scoring needs now rather than with the first image."""

    def attach(self, cache: FeatureCache, training: TrainingImages) -> None:  # noqa: B027  an export needs neither
        """Gives it what its run's folder keeps.

        Args:
            cache: of what `embed` gives.
            training: the run's training images, to fit to where its density is not the saved one.
        """

    @abc.abstractmethod
    def configured(self, config: Config, *, gradcam_layer: str = "") -> Detector:
        """The same detector with other settings of an evaluation; its density is fitted again where they decide it.

        Args:
            config: with the settings, of `given`.
            gradcam_layer: see `ImageDetector`.

        Raises:
            InputError: it cannot have them.
        """

    def _copy_with(self, config: Config) -> Self:
        """A copy with other settings that decide no scores."""
        result = copy.copy(self)
        result.given, result.config = config, config.resolved()
        vars(result).pop("how_read", None)
        return result

    def training_embeddings(self) -> Embeddings | None:
        """What its run keeps of the training images; None where it keeps nothing."""
        return None

    @property
    def held_out_(self) -> np.ndarray | None:
        """`negative_log_density` of normal images by densities fitted without them; None where that is not known."""
        return self._held_out

    @property
    def members(self) -> list[Detector]:
        """The detectors of an ensemble; of any other, itself."""
        return [self]

    @property
    def side(self) -> int:
        """Height and width in pixels of the images that `embed` takes."""
        return self.config.data.image_size

    @functools.cached_property
    def how_read(self) -> DataSettings:
        """How files become images for it."""
        return dataclasses.replace(self.config.data, white=self.data.white)

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """How normal images score, which gives threshold and p-values; None where that is not known."""
        held_out = self.held_out_
        if held_out is None or not len(held_out):
            return None
        scores, maps = self.reduce(held_out)
        pixels = np.empty(0) if maps is None else np.sort(maps.max(axis=(1, 2)).astype(np.float64))
        return Calibration(np.sort(np.asarray(scores, np.float64)), pixels)

    @property
    def pixel_threshold(self) -> float | None:
        """Heat above it is anomalous; None where heat maps of images share no scale, or it is not known."""
        if self.calibration is None or not len(self.calibration.pixels):
            return None
        return self.calibration.pixel_threshold(self.threshold_and_rate(self.calibration)[1])

    def threshold_and_rate(self, calibration: Calibration) -> tuple[float, float]:
        """The threshold that is in force, and its false alarm rate.

        Raises:
            InputError: so few normal images cannot give the rate that is asked for.
        """
        if self.given_threshold is not None:
            return self.given_threshold, calibration.rate_of(self.given_threshold)
        rate = calibration.rate(self.config.decision)
        return calibration.threshold(rate), rate

    def decide(self, scores: np.ndarray) -> Decisions | None:
        """Which images are anomalous, by their scores float64 [count]; None where no threshold is known."""
        calibration = self.calibration
        return None if calibration is None else calibration.decide_by(scores, *self.threshold_and_rate(calibration))

    def with_threshold(self, threshold: float | None) -> Self:
        """The same detector with a threshold in place of its false alarm rate's; None: as it is.

        Raises:
            InputError: it knows no scores of normal images, which p-values and rates come from.
        """
        if threshold is None:
            return self
        if self.calibration is None:
            raise InputError(
                f"--threshold={threshold:g}: {self.description} that knows no scores of normal images has no p-values "
                "either: train it again, or give --calibration_data."
            )
        result = copy.copy(self)
        result.given_threshold = threshold
        return result

    def calibrate(self, images: ImageSet) -> None:
        """Lets other normal images, which it was not fitted to, give threshold and p-values."""
        self._held_out = self.negative_log_density(self.embedded(images))
        vars(self).pop("calibration", None)

    def embedded(self, images: ImageSet, *, report: Report = no_report) -> Any:
        """What `embed` gives for a set of images, or the cache has of it."""

        def make() -> np.ndarray:
            report(f"Computing {self.config.features.feature} of {images.examples.note}.")
            return self.embed(images.examples.images, report=report)

        if self.cache is None or not images.items:
            return make()
        return self.cache.embedded(images, self._cache_key, make)

    @property
    def _cache_key(self) -> str:
        """What decides `embed`'s result, beside the network and the images."""
        return str(self.config.features)

    def score_set(self, images: ImageSet, *, heat_maps: bool, report: Report = no_report) -> Scores:
        """Scores a set of images, from the cache where it has what is needed.

        Args:
            images: to score.
            heat_maps: whether heat maps are asked for.
        """
        result = self._scores(
            self.embedded(images, report=report),
            lambda: self.localize(images.examples.images, report=report),
            heat_maps=heat_maps,
        )
        return result if heat_maps else result._replace(heat_maps=None)

    def _scores(self, embedded: Any, localize: Callable[[], np.ndarray], *, heat_maps: bool) -> Scores:
        """Scores, and heat maps that come with them or, if they are asked for, are made apart."""
        scores, maps = self.reduce(self.negative_log_density(embedded))
        return Scores(scores, localize() if heat_maps and maps is None else maps, embedded)

    def score(self, images: np.ndarray, *, heat_maps: bool = False) -> Scores:
        """Scores RGB images uint8 [count, height, width, 3] of any size; heat maps have the detector's side.

        Raises:
            InputError: they are of another shape or type.
        """
        images = self.resized(images)
        return self._scores(self.embed(images), lambda: self.localize(images), heat_maps=heat_maps)

    def predict(
        self, image: np.ndarray | str | Path, *, heat_map: bool = False, false_alarm_rate: float = 0.0
    ) -> Prediction:
        """Score, p-value, decision and boxes of one image, as `predict_main.py` gives them.

        Args:
            image: RGB, uint8 [height, width, 3] of any size; or a file, which is read as the training images were.
            heat_map: whether to give the heat map as well, at the image's own size.
            false_alarm_rate: of normal images that may be called anomalous; 0: the run's, see `DecisionSettings`.

        Raises:
            InputError: the file cannot be read, the array is of another shape or type, or so few normal images cannot
                give the rate.
        """
        pixels = image if isinstance(image, np.ndarray) else reading.read_pixels(Path(image), self.how_read)
        detector = self
        if false_alarm_rate:
            detector = self.configured(self.given.replaced(false_alarm_rate=false_alarm_rate))
        scores, maps, _ = self.score(pixels[None], heat_maps=heat_map)
        size = (pixels.shape[1], pixels.shape[0])
        (result,) = prediction.of(scores, maps, [size], detector.decide(scores), detector.pixel_threshold)
        if not heat_map or result.heat_map is None:
            return result._replace(heat_map=None)
        return result._replace(heat_map=np.asarray(resize(Image.fromarray(result.heat_map), *size)))

    def resized(self, images: np.ndarray) -> np.ndarray:
        """RGB images uint8 [count, height, width, 3] at the detector's side, as those that it learned from.

        Raises:
            InputError: they are of another shape or type.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not all(images.shape[1:]):
            raise InputError(
                f"an image is {images.dtype} {list(images.shape[1:])}; expected RGB, uint8 [height, width, 3]"
            )
        if images.shape[1:3] == (self.side, self.side):
            return images
        return np.stack([np.asarray(resize(Image.fromarray(image), self.side, self.side)) for image in images])

    def save(self, folder: Path) -> None:
        """Writes the folder, whole or not at all: all that a detector needs."""
        with whole_folder(folder) as partial:
            self._save(partial)
            if self.held_out_ is not None:
                calibration.write(partial / runs.CALIBRATION, self.held_out_)
            self.data.write(partial)
            (partial / "config.json").write_text(self.given.to_json(), encoding="utf-8")

    def _save(self, folder: Path) -> None:
        """Writes what is its kind's own."""
        raise InputError(f"{self.description} is made of what lies elsewhere, and is not saved.")

    def graph(self, *, single: bool) -> Any:
        """The detector as a TensorFlow graph, see `graphs.graph.DetectorGraph`.

        Args:
            single: whether it computes in single precision, without loops, as ONNX and LiteRT want it.
        """
        raise InputError(f"{self.description} cannot be exported.")


class FittedDetector(Detector):
    """A network, or what takes its place, and a density; the density may be fitted when it is first needed.

    Attributes:
        density: fitted, with `score_samples`.
        training_features_: float32 [count, dimensions] of the images it was fitted to; [count, 0] where they are too
            many to keep.
    """

    def __init__(self, config: Config, data: TrainingData):
        super().__init__(config, data)
        self.training_features_ = np.empty((0, 0), np.float32)
        self._density: Any = None
        self._training: TrainingImages | None = None  # to fit to

    @abc.abstractmethod
    def fit(self, images: np.ndarray, groups: np.ndarray | None = None, *, report: Report = no_report) -> Self:
        """Fits to normal images uint8 [count, side, side, 3], not augmented.

        Args:
            images: the images.
            groups: int [count]: for `held_out_`, images of a group are left out together; None: each by itself.
        """

    @abc.abstractmethod
    def _fit_to(self, training: TrainingImages) -> None:
        """Fits to a run's training images, or takes what is cached of that."""

    @abc.abstractmethod
    def restore(self, folder: Path, held_out: np.ndarray | None) -> Self:
        """Takes the density that a detector's folder has, and held-out scores.

        Raises:
            InputError: a file is damaged.
        """

    def attach(self, cache: FeatureCache, training: TrainingImages) -> None:  # noqa: D102
        self.cache, self._training = cache, training

    def configured(self, config: Config, *, gradcam_layer: str = "") -> Self:  # noqa: D102
        result = self._with(config, gradcam_layer)
        if (result.config.features, result.config.density) == (self.config.features, self.config.density):
            result._density, result._held_out = self._density, self._held_out
        return result

    @abc.abstractmethod
    def _with(self, config: Config, gradcam_layer: str) -> Self:
        """The same network with other settings, not fitted."""

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
