"""Ways to score images, and how well each finds made-up anomalies on held-out normal images; see `choice`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import arrays
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras
from cutpaste_tf.detection import dense, image_features, loading
from cutpaste_tf.detection.density_detector import DensityDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import regions, synthetic
from cutpaste_tf.networks import build
from cutpaste_tf.networks.backbones import BACKBONES
from cutpaste_tf.progress import Report, track
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.augmentation import AugmentationSettings
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting, more_images

# Names of image sets, in addition to the kinds of anomalies.
FITTED, NORMAL = "fitted", "normal"
TOGETHER = 3  # number of best candidates, with different features or densities, whose mean is used
_HELD_OUT = 30  # images at most; their anomalies, eight for each, take most of the time
LEAST = 12  # images, or groups of images
_FALSE_ALARMS = 0.01
_PATCHES = {"patch_size": 64, "extract_size": 32, "stride": 8, "dense": "fast"}
_STAGES = ("layer1", "layer2", "layer3")  # that describe patches
_DENSITIES: tuple[dict[str, Any], ...] = (
    {"density_mode": "shared"},
    {"density_mode": "per_location"},
    {"density": "nearest", "l2_normalize": False, "normalize_coverage": True},
)
# Kind of made-up anomaly -> changes to the augmentation settings, opacity.
_PASTED: dict[str, tuple[dict[str, Any], float]] = {
    "scar": ({"proxy_task": "cutpaste_scar"}, 1.0),
    "thin scar": ({"proxy_task": "cutpaste_scar", "scar_max_width": 6}, 1.0),
    "faint scar": ({"proxy_task": "cutpaste_scar"}, 0.5),
    "small patch": ({"proxy_task": "cutpaste", "min_patch_area": 0.004, "max_patch_area": 0.02}, 1.0),
    "tiny patch": ({"proxy_task": "cutpaste", "min_patch_area": 0.001, "max_patch_area": 0.004}, 1.0),
    "faint spot": ({"proxy_task": "confetti", "min_patch_area": 0.002, "max_patch_area": 0.02}, 0.2),
}
_ELLIPSE = 0.04, 0.12  # smallest and largest extent, as fractions of the image's shorter side
_ELLIPSE_OPACITY = 0.15


class Candidate(NamedTuple):
    """A way to score images, and how well it finds made-up anomalies.

    Attributes:
        settings: its values for the settings in `config.CHOSEN`.
        power: kind of anomaly -> percentage found at 1 % false alarms.
        scores: name of the images -> standardized scores: of the images it was fitted to, each scored while held out;
            of the held-out images; and of each kind of anomaly.
        seconds: time for fitting and scoring, without the network.
    """

    settings: dict[str, Any]
    power: dict[str, float]
    scores: dict[str, np.ndarray]
    seconds: float

    @property
    def mean_power(self) -> float:
        """The figure that candidates are ranked by, in percent."""
        return float(np.mean([*self.power.values()]))

    @property
    def density(self) -> str:
        """`whole` for whole images; `shared`, `per_location` or `nearest` for patches."""
        return self.settings.get("density_mode", self.settings.get("density", "whole"))

    @property
    def name(self) -> str:
        """What distinguishes it from the others."""
        return " ".join([self.settings["feature"], self.density, self.settings.get("image_score", "")]).strip()


def best(ranked: list[Candidate], count: int = TOGETHER) -> list[Candidate]:
    """The first `count` of the ranked candidates, except those that differ from a better one only by image score."""
    result: dict[tuple[str, str], Candidate] = {}
    for candidate in ranked:
        result.setdefault((candidate.settings["feature"], candidate.density), candidate)
    return [*result.values()][:count]


def together(some: list[Candidate]) -> dict[str, np.ndarray]:
    """Name of the images -> mean of the candidates' standardized scores."""
    return {name: np.mean([candidate.scores[name] for candidate in some], axis=0) for name in some[0].scores}


def power_together(ranked: list[Candidate]) -> float:
    """What the best candidates find together, in percent."""
    return float(np.mean([*power(together(best(ranked))).values()]))


def power(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Kind of anomaly -> percentage above the threshold for _FALSE_ALARMS, from `Candidate.scores`."""
    normal = np.concatenate([scores[FITTED], scores[NORMAL]])
    threshold = np.quantile(normal, 1 - _FALSE_ALARMS)
    return {
        kind: 100 * float(np.mean(each > threshold)) for kind, each in scores.items() if kind not in (FITTED, NORMAL)
    }


def too_few(count: int) -> str:
    """Why so many images, or groups of images, are too few for `split`."""
    return f"--choose needs at least {LEAST} normal images, to hold out a third of them; there are {count}."


def split(groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits groups of images into held-out and other groups.

    Args:
        groups: int [count], the group of each image; a group holds copies of an image, or frames of a scene, see
            `calibration.groups`.
        seed: seed of the draw.

    Returns:
        Indices of the held-out images, one from each held-out group (at most a third of the groups), and indices of
        the images in the other groups.
    """
    names, first = np.unique(groups, return_index=True)
    if len(names) < LEAST:
        raise InputError(too_few(len(names)))
    drawn = np.random.default_rng(seed).permutation(len(names))[: min(_HELD_OUT, len(names) // 3)]
    return np.sort(first[drawn]), np.flatnonzero(~np.isin(groups, names[drawn]))


def made_up(images: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Adds an anomaly of each kind to a copy of each image.

    Args:
        images: uint8 [count, height, width, 3].
        seed: seed of the anomalies.

    Returns:
        Kind -> uint8 [count, height, width, 3].
    """
    plain = AugmentationSettings(translate=0.0, base_jitter=0.0)
    result = {}
    for kind, (changes, opacity) in _PASTED.items():
        (views,) = pipeline.augmentations(images, dataclasses.replace(plain, **changes), seed=seed).values()
        result[kind] = _blended(images, 255 * views, opacity)
    natural, _ = synthetic.read_natural("")
    for fill in synthetic.FILLS:
        rngs = [np.random.default_rng([seed, index]) for index in range(len(images))]
        source = natural if fill == "image" else None
        outline = synthetic.OUTLINES["ellipse"]
        pasted = [
            synthetic.paste(image, rng, outline, source, extents=_ELLIPSE)[0]
            for image, rng in zip(images, rngs, strict=True)
        ]
        result[f"faint ellipse ({fill})"] = _blended(images, np.stack(pasted), _ELLIPSE_OPACITY)
    return result


def _blended(images: np.ndarray, changed: np.ndarray, opacity: float) -> np.ndarray:
    return np.round(images + opacity * (changed.astype(np.float32) - images)).astype(np.uint8)


def measured(
    config: Config, images: dict[str, np.ndarray], groups: np.ndarray | None, report: Report
) -> list[Candidate]:
    """Every candidate, fitted to the FITTED images (with their `groups`), and its power to find the anomalies."""
    resolved = config.resolved()
    trained = more_images.network_of(resolved)
    network = trained.model if trained else fitting.initial_networks(resolved).feature
    backbone = build.backbone_of(network)
    whole = (*BACKBONES[backbone.name].features(backbone), "pool")
    families = [_Family((stage,), {}) for stage in whole]
    features = {False: _Features(network, whole, images, resolved, report)}
    if resolved.network.facts.dilates:
        chosen = *((stage,) for stage in _STAGES), _STAGES[1:]
        families += [_Family(stages, {**_PATCHES, **density}) for stages in chosen for density in _DENSITIES]
        features[True] = _Features(network, _STAGES, images, config.replaced(**_PATCHES).resolved(), report)
    has_regions = bool(resolved.data.reading.region)
    inside = {name: regions.inside(some) if has_regions else None for name, some in images.items()}
    candidates = []
    for family in track(families, len(families), "Candidates", report):
        given = config.replaced(feature=",".join(family.stages), **family.settings)
        detector = loading.make_single(network, given, TrainingData({}, 255))
        candidates += _of_family(family, detector, features[family.of_patches], inside, groups)
    return candidates


class _Family(NamedTuple):
    """Candidates with the same features and density."""

    stages: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def of_patches(self) -> bool:
        return "patch_size" in self.settings


def _of_family(
    family: _Family,
    fitted: DensityDetector,
    features: _Features,
    inside: dict[str, np.ndarray | None],
    groups: np.ndarray | None,
) -> Iterator[Candidate]:
    began = time.monotonic()
    settings = {"feature": ",".join(family.stages), **family.settings}
    fitted.fit_features(features.of(family.stages, FITTED), groups, inside[FITTED])
    densities = {
        name: fitted.score_features(features.of(family.stages, name), inside[name])
        for name in features.names
        if name != FITTED
    }
    for image_score in ("map", "patches") if family.of_patches else ("",):
        given = {**settings, "image_score": image_score} if image_score else settings
        detector = fitted.configured(fitted.given.replaced(**given))
        scores = {name: detector.reduce(each, inside[name])[0] for name, each in densities.items()}
        held_out = detector.held_out_
        assert held_out is not None
        scores[FITTED], _ = detector.reduced(held_out, detector.held_out_regions_)
        mean, deviation = scores[FITTED].mean(), max(scores[FITTED].std(), 1e-12)
        scores = {name: (each - mean) / deviation for name, each in scores.items()}
        yield Candidate(given, power(scores), scores, time.monotonic() - began)


class _Features:
    """Features from several stages, for patches or whole images; each stage is a range of channels."""

    def __init__(
        self,
        network: keras.Model,
        stages: tuple[str, ...],
        images: dict[str, np.ndarray],
        config: Config,
        report: Report,
    ):
        feature = build.feature_model(network, ",".join(stages))
        self._channels, end = dict[str, np.ndarray](), 0
        for stage in stages:
            begin, end = end, end + _width(build.feature_model(network, stage))
            self._channels[stage] = np.arange(begin, end)
        self._rows, count = dict[str, slice](), 0
        for name, some in images.items():
            self._rows[name] = slice(count, count + len(some))
            count += len(some)
        if config.patch_size:
            each = dense.function(feature, config.data.size, config.features).each
            every = (features for some in images.values() for features in each(some))
            for index, features in enumerate(track(every, count, "Patches of images", report)):
                if not index:
                    self._features = arrays.allocate(count, features.shape, np.float32)
                self._features[index] = features
        else:
            self._features = np.concatenate(
                [image_features.embed(feature, some, report=report) for some in images.values()]
            )

    @property
    def names(self) -> list[str]:
        return [*self._rows]

    def of(self, stages: tuple[str, ...], name: str) -> np.ndarray:
        """Features of the images with this name: float32 [images, ..., dimensions]."""
        channels = np.concatenate([self._channels[stage] for stage in stages])
        return self._features[self._rows[name]][..., channels]


def _width(feature: keras.Model) -> int:
    shape: Any = feature.output_shape
    return shape[-1]
