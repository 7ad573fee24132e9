"""Detectors with different features and densities as one: the mean of their standardized scores.

Each member's scores are standardized to mean 0 and variance 1 over its held-out training images, so that no member
outweighs the others. Heat maps are divided by the median of their maxima over these images. In contrast, the detectors
of an ensemble (`ensemble.py`) differ only in their network's seed; it averages log densities, as the paper does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from cutpaste_tf import runs
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.cache import FeatureCache
from cutpaste_tf.detection.density_detector import DensityDetector
from cutpaste_tf.detection.detector import Detector, FittedDetector
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.detection.network import Network
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.errors import InputError
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config


class Standard(NamedTuple):
    """How a member scores its held-out training images.

    Attributes:
        mean, deviation: mean and standard deviation of the scores.
        heat: median of the heat maps' maxima; 0 without heat maps.
    """

    mean: float
    deviation: float
    heat: float

    @classmethod
    def of(cls, member: Detector) -> Self:
        """The values for a fitted member.

        Raises:
            InputError: it has no held-out scores.
        """
        known = member.calibration
        if known is None:
            raise InputError("A combination needs scores of held-out training images, but there are too few images.")
        heat = float(np.median(known.pixels)) if len(known.pixels) else 0.0
        return cls(float(known.scores.mean()), max(float(known.scores.std()), 1e-12), heat)


class Combination(FittedDetector):
    """Scores images by the mean of its members' standardized scores.

    Args:
        members: detectors on one network, not yet fitted; at least one has heat maps.
        network: the network they share.
        config: configuration of the run; each member has one of its `parts`.
        data: the normal images it is fitted to.
    """

    description = "a combination"

    def __init__(
        self,
        members: Sequence[DensityDetector],
        network: Network,
        config: Config,
        data: TrainingData,
    ):
        super().__init__(config, data)
        self.network, self.parts = network, list(members)
        for part in self.parts:
            part.network = self.network  # loaded once
        self.maps_come_with_scores = any(part.maps_come_with_scores for part in members)
        self._standards: list[Standard] = []

    @property
    def standards(self) -> list[Standard]:
        """How each member scores its held-out training images."""
        if not self._standards:
            self._standards = [Standard.of(part) for part in self.parts]
        return self._standards

    def fit(self, images: np.ndarray, groups: np.ndarray | None = None, *, report: Report = no_report) -> Self:  # noqa: D102
        for members in self._alike:
            members[0].fit_together(members, images, groups, report=report)
        self._standards = []
        self.training_features_ = np.zeros((len(images), 0), np.float32)
        self._take_regions(self.regions(images))
        return self

    @property
    def _alike(self) -> list[list[DensityDetector]]:
        """The members, those with the same embedding together."""
        result: dict[Any, list[DensityDetector]] = {}
        for part in self.parts:
            result.setdefault(part.embedding, []).append(part)
        return [*result.values()]

    def attach(self, cache: FeatureCache, training: TrainingImages) -> None:  # noqa: D102
        for part in self.parts:
            part.attach(cache, training)

    def configured(self, config: Config, *, gradcam_layer: str = "") -> Self:  # noqa: D102
        if gradcam_layer:
            raise InputError("--gradcam_layer is for image models; a combination's heat maps come from its patches.")
        changed = {name: value for name, value in config.flat().items() if value != self.given.flat()[name]}
        groups = (self.config.features, self.config.density, self.config.heat_maps)
        if fixed := [name for name in changed if any(name in group.flat() for group in groups)]:
            names = ", ".join(f"--{name}" for name in fixed)
            raise InputError(
                f"{names}: the run combines several detectors, each with its own settings; train one by itself."
            )
        members = [part.configured(part.given.replaced(**changed)) for part in self.parts]
        result = type(self)(members, self.network, config, self.data)
        result._held_out, result._held_out_regions = self._held_out, self._held_out_regions
        return result

    def embed(self, images: np.ndarray, *, report: Report = no_report) -> list[Any]:
        """The results of the members' `embed`."""
        return self._of_each(lambda members: members[0].embed_together(members, images, report=report))

    def embedded(self, images: ImageSet, *, report: Report = no_report) -> list[Any]:
        """The results of the members' `embedded`, each from the cache."""

        def of(members: list[DensityDetector]) -> list[Any]:
            @functools.cache
            def computed() -> list[Any]:
                return members[0].embed_together(members, images.examples.images, report=report)

            return [
                member.cached(images, lambda index=index: computed()[index], report)
                for index, member in enumerate(members)
            ]

        return self._of_each(of)

    def _of_each(self, compute: Callable[[list[DensityDetector]], list[Any]]) -> list[Any]:
        """A result for each member; `compute` takes members with the same embedding and returns theirs."""
        results = {
            id(part): result for alike in self._alike for part, result in zip(alike, compute(alike), strict=True)
        }
        return [results[id(part)] for part in self.parts]

    def negative_log_density(self, embedded: list[Any]) -> Any:
        """The list of the members' results."""
        return [part.negative_log_density(each) for part, each in zip(self.parts, embedded, strict=True)]

    def reduce(self, densities: Any, regions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The mean of the standardized scores, and of the heat maps."""
        scores, total, count = [], None, 0
        for part, standard, each in zip(self.parts, self.standards, densities, strict=True):
            of_part, maps = part.reduce(each, regions)
            scores.append((of_part - standard.mean) / standard.deviation)
            if maps is not None:
                maps /= np.float32(max(standard.heat, 1e-12))
                total = maps if total is None else np.add(total, maps, out=total)
                count += 1
        if total is not None:
            total /= np.float32(count)
        return np.mean(scores, axis=0), total

    def localize(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
        """GradCAM of the first member, used if no member has patches."""
        return self.parts[0].localize(images, report=report)

    def _part(self, densities: Any, part: slice) -> Any:
        return [each[part] for each in densities]

    def training_embeddings(self) -> Embeddings | None:  # noqa: D102
        return self.parts[0].training_embeddings()

    @property
    def held_out_(self) -> Any:
        """The list of the members' scores, or other images' scores once calibrated on them; None if any is missing."""
        if self._held_out is not None:
            return self._held_out
        known = [part.held_out_ for part in self.parts]
        return None if any(each is None or not len(each) for each in known) else known

    def prepare(self) -> None:  # noqa: D102
        for members in self._alike:
            members[0].prepare()  # the others use its embedder

    def _save(self, folder: Path) -> None:
        self.network.save(folder / runs.MODEL)
        for place, part in zip(_places(folder, self.parts), self.parts, strict=True):
            place.mkdir()
            part.save_density(place)
            if part.held_out_ is not None:
                calibration.write(place / runs.CALIBRATION, part.held_out_, part.held_out_regions_)

    def _save_held_out(self, folder: Path) -> None:
        """Does nothing: the members' scores are saved with them."""

    def restore(self, folder: Path, held_out: np.ndarray | None, regions: np.ndarray | None = None) -> Self:  # noqa: D102
        del held_out, regions  # the members have their own
        for place, part in zip(_places(folder, self.parts), self.parts, strict=True):
            part.restore(place, *calibration.read_of(place))
        self._held_out_regions = self.parts[0].held_out_regions_
        return self

    def graph(self, *, single: bool) -> Any:  # noqa: D102
        from cutpaste_tf.detection.graphs.graph import CombinedGraph

        graphs = [part.graph(single=single) for part in self.parts]
        return CombinedGraph(graphs, [part.embedding for part in self.parts], self.standards, single=single)


def _places(folder: Path, parts: Sequence[Detector]) -> list[Path]:
    """Where each member's density is in a detector's folder."""
    return [folder / f"part{number}" for number in range(1, len(parts) + 1)]
