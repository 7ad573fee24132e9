"""Several detectors as one: the mean of their log densities (Table 1, last column)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf.detection.density_detector import DensityDetector
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.settings.config import Config


class Ensemble(Detector):
    """Scores images by the mean of its members' log densities, and averages their heat maps.

    Args:
        members: detectors of one kind, with the same settings for features, density and heat maps, fitted to the same
            images.
        folders: folders of the members, for messages.

    Raises:
        InputError: the members cannot form an ensemble.
    """

    description = "an ensemble"

    def __init__(self, members: Sequence[Detector], folders: Sequence[Path]):
        first = members[0]
        super().__init__(first.given, first.data)
        self._members, self._folders = list(members), list(folders)
        self.maps_come_with_scores, self.unused_settings = first.maps_come_with_scores, first.unused_settings
        for member, folder in zip(members[1:], folders[1:], strict=True):
            _check(first, folders[0], member, folder)

    @property
    def members(self) -> list[Detector]:  # noqa: D102
        return self._members

    def embed(self, images: np.ndarray, *, report: Report = no_report) -> list[Any]:
        """The results of the members' `embed`."""
        return [member.embed(images, report=report) for member in self.members]

    def embedded(self, images: ImageSet, *, report: Report = no_report) -> list[Any]:
        """The results of the members' `embedded`, each from its own cache."""
        return [member.embedded(images, report=report) for member in self.members]

    def negative_log_density(self, embedded: list[Any]) -> np.ndarray:
        """The mean over the members."""
        pairs = zip(self.members, embedded, strict=True)
        return np.mean([member.negative_log_density(features) for member, features in pairs], axis=0)

    def reduce(self, densities: np.ndarray, regions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The same as for each member."""
        return self.members[0].reduce(densities, regions)

    @property
    def held_out_regions_(self) -> np.ndarray | None:
        """The regions of other images if calibrated on them; otherwise of the images all members were fitted to."""
        return self._members[0].held_out_regions_ if self._held_out_regions is None else self._held_out_regions

    def localize(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
        """The mean of the members' heat maps."""
        maps = self.members[0].localize(images, report=report)
        for member in self.members[1:]:
            maps += member.localize(images, report=report)  # in place, since they may be in a file
        maps /= len(self.members)
        return maps

    def configured(self, config: Config, *, gradcam_layer: str = "") -> Ensemble:
        """The members with other settings; the rest of their configurations stays unchanged."""
        changed = {name: value for name, value in config.flat().items() if value != self.given.flat()[name]}
        members = [
            member.configured(member.given.replaced(**changed), gradcam_layer=gradcam_layer) for member in self.members
        ]
        return Ensemble(members, self._folders)

    @property
    def held_out_(self) -> np.ndarray | None:
        """The mean over the members; None if any of them has none."""
        if self._held_out is None:
            scores = [held_out for member in self.members if (held_out := member.held_out_) is not None]
            self._held_out = np.mean(scores, axis=0) if len(scores) == len(self.members) else None
        return self._held_out

    def training_embeddings(self) -> Embeddings | None:
        """What the first member's run stores about the training images, which all members share."""
        return self._members[0].training_embeddings()

    def prepare(self) -> None:  # noqa: D102
        for member in self.members:
            member.prepare()

    def graph(self, *, single: bool) -> Any:  # noqa: D102
        from cutpaste_tf.detection.graphs.graph import MeanGraph

        return MeanGraph([member.graph(single=single) for member in self.members])


def _check(first: Detector, first_folder: Path, other: Detector, folder: Path) -> None:
    for member, place in ((first, first_folder), (other, folder)):
        if not isinstance(member, DensityDetector):
            raise InputError(f"{place} is {member.description}, which cannot be part of an ensemble.")
    groups = first.config.features, first.config.density, first.config.heat_maps
    for name in ("patch_size", "image_size", *(name for group in groups for name in group.flat())):
        ours, theirs = (detector.config.flat()[name] for detector in (first, other))
        if ours != theirs:
            raise InputError(
                f"{folder} has --{name}={theirs} but {first_folder} has {ours}; in an ensemble they must be the same."
            )
    if other.data.images != first.data.images:
        raise InputError(
            f"{folder} and {first_folder} were trained on different images; in an ensemble they must be the same."
        )
