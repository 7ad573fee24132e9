"""Scores and heat maps of test images by an export: the files as they are, decoded, go through its own graph."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.embeddings import without_features
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.scored import Scored
from cutpaste_tf.evaluation.scoring import Scorer
from cutpaste_tf.exporting.exported import Exported
from cutpaste_tf.images import reading
from cutpaste_tf.images.reading import Examples, Item


class ExportScorer(Scorer):
    """An export in a run's place; arguments as of `Scorer`.

    Raises:
        InputError: a file of the export is damaged, or a setting is given anew that it was made with.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        saved, config = self._saved, self._config
        groups = ("features", "density", "heat_maps", "decision")
        if changed := [name for name in groups if getattr(saved, name) != getattr(config, name)]:
            raise InputError(
                f"{self._run_dir} is an export, whose settings of {' and '.join(changed)} are those that it was made "
                "with: evaluate the run to give them anew."
            )
        self._exported = Exported(self._run_dir)
        self._held_out = calibration.read_of(self._run_dir)

    def score(
        self, items: list[Item], examples: Examples | None, *, keep: bool, localize: bool, gradcam_layer: str
    ) -> Scored:
        """As `Scorer.score`; features stay inside the export, and nothing is kept."""
        if gradcam_layer:
            raise InputError(
                f"{self._run_dir} is an export, whose GradCAM is of what its feature pools; leave out --gradcam_layer."
            )
        found = examples or self.read_tests(items)
        self._report(f"Scoring {found.note} by the export's own graph.")
        # Images that were made up are no files, and of the export's size already.
        images = self._pixels(items) if keep else iter(found.images)
        outputs = self._exported.score(images, len(found.images))
        maps = outputs.heat_map if localize else None
        return Scored(self._train(needed=False), without_features(found), outputs.score, maps, self._held_out)

    def _pixels(self, items: list[Item]) -> Iterator[np.ndarray]:
        read = functools.partial(reading.read_pixels, settings=self._settings)
        return (read(item.image, name=item.path) for item in items)
