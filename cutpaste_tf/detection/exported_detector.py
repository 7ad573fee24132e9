"""An export as a detector: scores images as a program would that has only TensorFlow."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import arrays, runs
from cutpaste_tf.backend import tf
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.calibration import Calibration
from cutpaste_tf.detection.detector import Detector, Scores
from cutpaste_tf.detection.record import Record
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import COPY_AGAIN
from cutpaste_tf.images import reading
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.base import PATCH_MODEL, only_for
from cutpaste_tf.settings.config import Config

# A SavedModel is a program. Ours has none of these operations, which reach beyond it: files, devices, Python code.
_FOREIGN = re.compile(
    r"(Write|Read|Matching|Delete|Copy|Whole)\w*File\w*|\w*PyFunc\w*|\w*Socket\w*|RemoteCall|_?Send|_?Recv|Rpc\w*"
)
_PIXELS = 2**21  # pixels in a batch of images of one size: 32 images of 256 px


def _check_operations(folder: Path) -> None:
    """Checks that a SavedModel only computes; TensorFlow executes it from the moment it is loaded.

    Raises:
        InputError: it has an operation that reaches beyond it, or is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2  # loads TensorFlow

    path = folder / "saved_model.pb"
    try:
        graphs = [graph.graph_def for graph in saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs]
    except (OSError, DecodeError) as error:
        raise InputError(f"{path} is damaged ({error}): {COPY_AGAIN}.") from None
    nodes = [node for graph in graphs for part in (graph.node, *_functions(graph)) for node in part]
    if foreign := next((node.op for node in nodes if _FOREIGN.fullmatch(node.op)), None):
        raise InputError(f"{path} has the operation {foreign}, which no export has: export again from the run.")


def _functions(graph: Any) -> Iterator[Any]:
    return (function.node_def for function in graph.library.function)


class ExportedDetector(Detector):
    """An export's SavedModel. The graph contains all steps and takes images at their original sizes.

    Args:
        folder: a folder that `export_main.py` wrote.

    Raises:
        InputError: the folder is not such an export, or a file in it is damaged.
    """

    description = "an export"
    threshold_is_fixed = True

    def __init__(self, folder: Path):
        super().__init__(Config.read(folder / "config.json"), TrainingData.read(folder))
        self.record = Record.read(folder)
        if self.record.format != "saved_model":
            raise InputError(
                f"{folder} is an export with --format={self.record.format}, whose scores differ from the evaluation's "
                "by the amount in its export.json; evaluate the run, or an export with --format=saved_model."
            )
        if not (folder / runs.CALIBRATION).is_file():
            raise InputError(f"{folder / runs.CALIBRATION} is missing: {COPY_AGAIN}.")
        self._folder = folder
        self.given_threshold = self.record.threshold if self.record.threshold_is_given else None
        self._scores_read = calibration.read_export(folder)
        self.maps_come_with_scores = bool(len(self._scores_read.pixels))
        self.unused_settings = () if self.maps_come_with_scores else tuple(only_for(Config, PATCH_MODEL))

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """How normal images score, as exported."""
        return self._scores_read

    def configured(self, config: Config, *, gradcam_layer: str = "") -> Detector:
        """The same export; only the settings for decisions and for reading files can differ from those at export."""
        groups = ("features", "density", "heat_maps")
        if changed := [name for name in groups if getattr(self.config, name) != getattr(config.resolved(), name)]:
            raise InputError(
                f"{self._folder} is an export, which fixes the settings of {' and '.join(changed)}; evaluate the run "
                "to change them."
            )
        if gradcam_layer:
            raise InputError(
                f"{self._folder} is an export, whose GradCAM uses the map that its feature pools; omit --gradcam_layer."
            )
        result = self._copy_with(config)
        if config.decision != self.config.decision:
            result.given_threshold = None
        return result

    @functools.cached_property
    def _model(self) -> Any:
        folder = self._folder / str(self.record.version)
        _check_operations(folder)
        return tf.saved_model.load(str(folder))

    def prepare(self) -> None:  # noqa: D102
        _ = self._model

    def embed(self, images: np.ndarray, *, report: Report = no_report) -> np.ndarray:
        """Scores float64 [count]."""
        del report
        return self._run(iter(images), len(images)).scores

    def negative_log_density(self, embedded: np.ndarray) -> np.ndarray:
        """The result of `embed`."""
        return embedded

    def reduce(self, densities: np.ndarray, regions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The result of `embed`."""
        del regions  # the graph contains them
        return densities, None

    def score_set(self, images: ImageSet, *, heat_maps: bool, report: Report = no_report) -> Scores:
        """Scores the decoded files at their original sizes."""
        report(f"Scoring {images.description} with the export's own graph.")
        result = self._run(images.originals(), len(images))
        return result if heat_maps else result._replace(heat_maps=None)

    def score(self, images: np.ndarray, *, heat_maps: bool = False) -> Scores:
        """Scores RGB images uint8 [count, height, width, 3] of any size."""
        del heat_maps  # the graph always computes them
        return self._run(iter(images), len(images))

    def _read(self, source: Path | bytes, name: str) -> tuple[np.ndarray, tuple[int, int]]:
        pixels = reading.read_pixels(source, self.how_read, name=name)
        return pixels, pixels.shape[1::-1]

    def _run(self, images: Iterable[np.ndarray], count: int) -> Scores:
        """Scores images, each uint8 [height, width, 3]; consecutive images of one size share a batch."""
        serve = self._model.signatures["serving_default"]
        scores, maps = np.empty(count), arrays.allocate(count, self.size, np.float32)
        start = 0
        for batch in _batches(images):
            outputs = serve(images=tf.constant(batch))
            scores[start : start + len(batch)] = outputs["score"].numpy()
            maps[start : start + len(batch)] = outputs["heat_map"].numpy()
            start += len(batch)
        return Scores(scores, maps)


def _batches(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    batch: list[np.ndarray] = []
    for image in images:
        if batch and (image.shape != batch[0].shape or (len(batch) + 1) * image[..., 0].size > _PIXELS):
            yield np.stack(batch)
            batch = []
        batch.append(image)
    if batch:
        yield np.stack(batch)
