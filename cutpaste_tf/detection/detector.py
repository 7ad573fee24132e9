"""The common interface of everything that scores images: image models, patch models, ensembles and exports.

As in scikit-learn, `fit` takes normal images and returns the detector, and names of learned attributes end in `_`.
Scores are negative log densities: higher = more anomalous. Scoring has three steps. The first needs the network and can
be cached; an ensemble averages the results of the second:

    images -> `embed` -> `negative_log_density` -> `reduce` -> scores of images, and heat maps

A new kind of detector is a subclass with these methods, `fit` and `save`, and an entry in `loading.py`.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from cutpaste_tf import runs
from cutpaste_tf.detection import calibration, prediction
from cutpaste_tf.detection.cache import FeatureCache
from cutpaste_tf.detection.calibration import Calibration, Decisions
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.detection.network import Network
from cutpaste_tf.detection.prediction import Prediction
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import COPY_AGAIN, whole_folder
from cutpaste_tf.images import reading, regions, resizing
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import DataSettings
from cutpaste_tf.settings.sizes import Size

_PIXELS = 2**22  # pixels per batch of heat maps when only their maxima are needed


class Scores(NamedTuple):
    """Scores of images.

    Attributes:
        scores: float64 [count], higher = more anomalous.
        heat_maps: float32 [count, height, width], 0 and above; None if not requested.
        embedded: the result of `embed`; None if it is internal, as in an export.
    """

    scores: np.ndarray
    heat_maps: np.ndarray | None
    embedded: np.ndarray | None = None


class Detector(abc.ABC):
    """Scores images.

    Args:
        config: configuration of its run; open values are filled in.
        data: the normal images it is fitted to, by name and hash; `white` says how files are read.

    Attributes:
        config: the resolved configuration.
        given: the configuration before it was resolved; this one is saved.
        given_threshold: the user's threshold; None: the threshold from the false alarm rate.
        cache: cache for the results of `embed` on files; None: no cache.
        description: what it is, for the user.
        stored_as: file and array name under which an evaluation stores the result of `embed`; empty: not stored.
        maps_come_with_scores: whether scoring always makes heat maps, which then share one scale.
        unused_settings: names of settings that this kind of detector ignores.
        threshold_is_fixed: whether other images and rates cannot change the threshold.
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
        self._held_out_regions: np.ndarray | None = None

    @abc.abstractmethod
    def embed(self, images: np.ndarray, *, report: Report = no_report) -> Any:
        """Embeds images uint8 [count, height, width, 3] as an array [count, ...] small enough to cache."""

    @abc.abstractmethod
    def negative_log_density(self, embedded: Any) -> np.ndarray:
        """From the result of `embed`: float64 [count], or float32 [count, rows, columns] for a model of patches."""

    @abc.abstractmethod
    def reduce(self, densities: np.ndarray, regions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores float64 [count] and, if `maps_come_with_scores`, heat maps float32 [count, height, width].

        Args:
            densities: the result of `negative_log_density`.
            regions: bool [count or 1, height, width], the part of the images that counts; None: all of it.
        """

    def localize(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
        """Heat maps float32 [count, height, width] of images uint8 [count, height, width, 3] if scoring makes none."""
        raise InputError(f"{self.description} has no heat maps; omit --heat_maps.")

    def prepare(self) -> None:  # noqa: B027  most have nothing to load
        """Loads what scoring needs now instead of at the first image."""

    def attach(self, cache: FeatureCache, training: TrainingImages) -> None:  # noqa: B027  an export needs neither
        """Attaches what its run's folder stores.

        Args:
            cache: cache for the results of `embed`.
            training: the run's training images, to fit the density to if the saved one does not apply.
        """

    @abc.abstractmethod
    def configured(self, config: Config, *, gradcam_layer: str = "") -> Detector:
        """The same detector with other evaluation settings; its density is refitted if they affect it.

        Args:
            config: `given` with the new settings.
            gradcam_layer: see `ImageDetector`.

        Raises:
            InputError: this detector does not support them.
        """

    def _copy_with(self, config: Config) -> Self:
        """A copy with other settings that do not affect scores."""
        result = copy.copy(self)
        result.given, result.config = config, config.resolved()
        vars(result).pop("how_read", None)
        return result

    def training_embeddings(self) -> Embeddings | None:
        """What its run stores about the training images; None if it stores nothing."""
        return None

    @property
    def held_out_(self) -> np.ndarray | None:
        """`negative_log_density` of normal images from densities fitted without them; None if unknown."""
        return self._held_out

    @property
    def held_out_regions_(self) -> np.ndarray | None:
        """The regions of the images in `held_out_`, bool [count or 1, height, width]; None if everything counts."""
        return self._held_out_regions

    def regions(self, images: np.ndarray) -> np.ndarray | None:
        """The regions that images uint8 [count, height, width, 3] carry, see `images.regions`; None without regions."""
        return regions.inside(images) if self.config.data.reading.region else None

    def _take_regions(self, regions: np.ndarray | None) -> None:
        """Stores the regions of the images in `held_out_`."""
        self._held_out_regions = None if regions is None else _without_copies(regions)

    @property
    def region(self) -> np.ndarray | None:
        """The region of all images, bool [height, width]; None if everything counts or each image has its own."""
        known = self.held_out_regions_
        return known[0] if known is not None and len(known) == 1 else None

    @property
    def members(self) -> list[Detector]:
        """The detectors of an ensemble; any other detector has only itself."""
        return [self]

    @property
    def size(self) -> Size:
        """(height, width) in pixels of the images that `embed` takes."""
        return self.config.data.size

    @functools.cached_property
    def how_read(self) -> DataSettings:
        """How to read files for it."""
        reading = self.config.data.reading
        if self.data.region:
            reading = dataclasses.replace(reading, region=self.data.region)
        return dataclasses.replace(self.config.data, white=self.data.white, reading=reading)

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """How normal images score, which sets threshold and p-values; None if unknown."""
        held_out = self.held_out_
        if held_out is None or not len(held_out):
            return None
        scores, hottest = self.reduced(held_out, self.held_out_regions_)
        return Calibration(np.sort(scores), np.sort(hottest))

    def reduced(self, densities: np.ndarray, regions: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores float64 [count], and the maxima of the heat maps (empty without heat maps); a few images at a time.

        Args:
            densities, regions: as for `reduce`.
        """
        together = max(1, _PIXELS // math.prod(self.size))
        scores, hottest = [np.empty(0)], [np.empty(0)]
        start, count = 0, together
        while count == together:
            part = slice(start, start + together)
            inside = regions if regions is None or len(regions) == 1 else regions[part]
            of_part, maps = self.reduce(self._part(densities, part), inside)
            start, count = start + together, len(of_part)
            scores.append(np.asarray(of_part, np.float64))
            if maps is not None:
                hottest.append(maps.max(axis=(1, 2)).astype(np.float64))
        return np.concatenate(scores), np.concatenate(hottest)

    @property
    def pixel_threshold(self) -> float | None:
        """The heat above which pixels are anomalous; None if unknown, or if heat maps do not share a scale."""
        if self.calibration is None or not len(self.calibration.pixels):
            return None
        if self.given_threshold is not None and self.config.heat_maps.image_score == "map":
            return self.given_threshold
        return self.calibration.pixel_threshold(self.threshold_and_rate(self.calibration)[1])

    def threshold_and_rate(self, calibration: Calibration) -> tuple[float, float]:
        """The threshold in force, and its false alarm rate.

        Raises:
            InputError: there are too few normal images for the requested rate.
        """
        if self.given_threshold is not None:
            return self.given_threshold, calibration.rate_of(self.given_threshold)
        rate = calibration.rate(self.config.decision)
        return calibration.threshold(rate), rate

    def decide(self, scores: np.ndarray) -> Decisions | None:
        """Which images are anomalous, by their scores float64 [count]; None if no threshold is known."""
        calibration = self.calibration
        return None if calibration is None else calibration.decide_by(scores, *self.threshold_and_rate(calibration))

    def with_threshold(self, threshold: float | None) -> Self:
        """The same detector with this threshold instead of the one from its false alarm rate; None: unchanged.

        Raises:
            InputError: it has no scores of normal images, from which p-values and rates are computed.
        """
        if threshold is None:
            return self
        if self.calibration is None:
            raise InputError(
                f"--threshold={threshold:g}: {self.description} without scores of normal images has no p-values "
                "either; train it again, or give --calibration_data."
            )
        result = copy.copy(self)
        result.given_threshold = threshold
        return result

    def _part(self, densities: Any, part: slice) -> Any:
        """The result of `negative_log_density` for some of the images, possibly none."""
        return densities[part]

    def calibrate(self, images: ImageSet) -> None:
        """Sets threshold and p-values from other normal images, to which it was not fitted."""
        self._held_out = self.negative_log_density(self.embedded(images))
        if self.config.data.reading.region:
            self._take_regions(self.regions(images.examples.images))
        vars(self).pop("calibration", None)

    def embedded(self, images: ImageSet, *, report: Report = no_report) -> Any:
        """The result of `embed` for a set of images, from the cache if it has it."""
        return self.cached(images, lambda: self.embed(images.examples.images, report=report), report)

    def cached(self, images: ImageSet, embed: Callable[[], Any], report: Report) -> Any:
        """The result of `embed` for a set of images, from the cache if it has it; `embed` computes it."""

        def make() -> Any:
            report(f"Computing {self.config.features.feature} of {images.examples.note}.")
            return embed()

        if self.cache is None or not images.items:
            return make()
        return self.cache.embedded(images, self._cache_key, make)

    @property
    def _cache_key(self) -> str:
        """What determines the result of `embed` in addition to the network and the images."""
        return str(self.config.features)

    def score_set(self, images: ImageSet, *, heat_maps: bool, report: Report = no_report) -> Scores:
        """Scores a set of images, from the cache if possible.

        Args:
            images: the images to score.
            heat_maps: whether to return heat maps.
        """
        result = self._scores(
            self.embedded(images, report=report),
            lambda: images.examples.images,
            heat_maps=heat_maps,
            report=report,
        )
        return result if heat_maps else result._replace(heat_maps=None)

    def _scores(
        self, embedded: Any, images: Callable[[], np.ndarray], *, heat_maps: bool, report: Report = no_report
    ) -> Scores:
        """Scores, with heat maps that come with the scores or, if requested, are computed from the images."""
        inside = self.regions(images()) if self.config.data.reading.region else None
        scores, maps = self.reduce(self.negative_log_density(embedded), inside)
        if not np.isfinite(scores).all():
            raise InputError(
                f"{self.description.capitalize()} gives scores that are not finite numbers, so one of its files is "
                f"damaged: {COPY_AGAIN}."
            )
        if heat_maps and maps is None:
            maps = self.localize(images(), report=report)
            if inside is not None:
                maps *= inside
        return Scores(scores, maps, embedded)

    def score(self, images: np.ndarray, *, heat_maps: bool = False) -> Scores:
        """Scores RGB images uint8 [count, height, width, 3] of any size; heat maps have the detector's size.

        If each image has its own region, the images must be black outside it.

        Raises:
            InputError: their shape or type is wrong.
        """
        images = self.resized(images)
        return self._scores(self.embed(images), lambda: images, heat_maps=heat_maps)

    def predict(
        self,
        image: np.ndarray | str | Path | bytes,
        *,
        heat_map: bool = False,
        false_alarm_rate: float = 0.0,
        name: str = "the image",
    ) -> Prediction:
        """Score, p-value, decision and boxes of one image, as `predict_main.py` gives them.

        Args:
            image: RGB, uint8 [height, width, 3] of any size; or a file, or the content of one, which is read like the
                training images.
            heat_map: whether to return the heat map too, at the image's own size.
            false_alarm_rate: fraction of normal images that may be called anomalous; 0: the run's, see
                `DecisionSettings`.
            name: name of the file for messages, if its content is given.

        Raises:
            InputError: the file cannot be read, the array's shape or type is wrong, or there are too few normal images
                for the rate.
        """
        if isinstance(image, np.ndarray):
            pixels, size = image, image.shape[1::-1]
        else:
            pixels, size = self._read(image if isinstance(image, bytes) else Path(image), name)
        detector = self
        if false_alarm_rate:
            detector = self.configured(self.given.replaced(false_alarm_rate=false_alarm_rate))
        scores, maps, _ = self.score(pixels[None], heat_maps=heat_map)
        (result,) = prediction.of(scores, maps, [size], detector.decide(scores), detector.pixel_threshold)
        if not heat_map or result.heat_map is None:
            return result._replace(heat_map=None)
        inside = self.regions(self.resized(pixels[None])) if self.config.data.reading.region else None
        return result._replace(heat_map=regions.enlarged(result.heat_map, size, None if inside is None else inside[0]))

    def _read(self, source: Path | bytes, name: str) -> tuple[np.ndarray, tuple[int, int]]:
        """The pixels of a file or its content in the form that `score` expects, and its original (width, height)."""
        return reading.read_resized(source, self.size, self.how_read, name=name)

    def resized(self, images: np.ndarray) -> np.ndarray:
        """Resizes RGB images uint8 [count, height, width, 3] to the detector's size, like the training images.

        Raises:
            InputError: their shape or type is wrong.
        """
        images = resizing.resized(images, self.size)
        region = self.region
        return images if region is None else np.stack([regions.blank(image, region) for image in images])

    def save(self, folder: Path) -> None:
        """Writes everything the detector needs to a folder, atomically."""
        with whole_folder(folder) as partial:
            self._save(partial)
            self._save_held_out(partial)
            self.data.write(partial)
            (partial / "config.json").write_text(self.given.to_json(), encoding="utf-8")

    def _save_held_out(self, folder: Path) -> None:
        if self.held_out_ is not None:
            calibration.write(folder / runs.CALIBRATION, self.held_out_, self.held_out_regions_)

    def _save(self, folder: Path) -> None:
        """Writes what is specific to this kind of detector."""
        raise InputError(f"{self.description} consists of other detectors and cannot be saved.")

    def graph(self, *, single: bool) -> Any:
        """The detector as a TensorFlow graph, see `graphs.graph.DetectorGraph`.

        Args:
            single: whether it computes in single precision and without loops, as ONNX and LiteRT need.
        """
        raise InputError(f"{self.description} cannot be exported.")


class FittedDetector(Detector):
    """A detector that is fitted to normal images and saved with its network.

    Attributes:
        network: the network up to the pooled feature.
        training_features_: float32 [count, dimensions] of the images it was fitted to; [count, 0] if there are too
            many to store.
    """

    network: Network

    def __init__(self, config: Config, data: TrainingData):
        super().__init__(config, data)
        self.training_features_ = np.empty((0, 0), np.float32)

    @abc.abstractmethod
    def fit(self, images: np.ndarray, groups: np.ndarray | None = None, *, report: Report = no_report) -> Self:
        """Fits to normal images uint8 [count, height, width, 3], not augmented.

        Args:
            images: the images.
            groups: int [count]: for `held_out_`, images in a group are left out together; None: each alone.
        """

    @abc.abstractmethod
    def restore(self, folder: Path, held_out: np.ndarray | None, regions: np.ndarray | None = None) -> Self:
        """Loads what it was fitted to from a detector's folder; takes held-out scores and their images' regions.

        Raises:
            InputError: a file is damaged.
        """


def _without_copies(regions: np.ndarray) -> np.ndarray:
    """Regions bool [count, height, width], reduced to [1, height, width] if all are the same."""
    return regions[:1] if (regions == regions[:1]).all() else regions
