"""Files -> rows, batch by batch; while a batch is scored and written, all cores read the next files."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import parallel
from cutpaste_tf.detection import image_features, prediction
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.prediction import Prediction
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading
from cutpaste_tf.images.named_files import NamedFile
from cutpaste_tf.pictures import heat_map_files
from cutpaste_tf.progress import Report
from cutpaste_tf.serving import rows as row_formats
from cutpaste_tf.serving.rows import Rows

_PAUSE = 30.0  # seconds between progress lines


class PredictionOptions(NamedTuple):
    """How to predict.

    Attributes:
        format: format of the rows, one of `rows.FORMATS`.
        heat_maps: a new or empty folder for heat maps; None: no heat maps.
        heat_map_format: one of `heat_map_files.FORMATS`.
        false_alarm_rate: fraction of normal images that may be called anomalous; 0: the run's, see `DecisionSettings`.
        threshold: the score above which an image is anomalous; None: the threshold from the false alarm rate.
        batch_size: number of images to read ahead and score together; 0: as in an evaluation.
        max_megapixels: images with more megapixels are errors; 0: the run's limit.
    """

    format: str = row_formats.FORMATS[0]
    heat_maps: Path | None = None
    heat_map_format: str = heat_map_files.FORMATS[0]
    false_alarm_rate: float = 0.0
    threshold: float | None = None
    batch_size: int = 0
    max_megapixels: float = 0.0


class Summary(NamedTuple):
    """What was scored.

    Attributes:
        images: number of files.
        anomalous: number of images above the threshold.
        trained_on: number of training images, whose scores are too low.
        errors: number of files that could not be read.
        seconds: time from the first file to the last row.
    """

    images: int
    anomalous: int
    trained_on: int
    errors: int
    seconds: float


class _Read(NamedTuple):
    """A file after reading: pixels uint8 [height, width, 3] and the original (width, height), or None and an error."""

    file: NamedFile
    pixels: np.ndarray | None
    size: tuple[int, int]
    error: str = ""


def columns(detector: Detector, options: PredictionOptions) -> list[str]:
    """Names of the columns that `run` writes."""
    names = ["path", "score"]
    names += ["p_value", "decision"] if detector.calibration else []
    names += ["boxes"] if detector.pixel_threshold is not None else []
    names += ["heat_map", "overlay"] if options.heat_maps else []
    names += ["heat_of_65535"] if options.heat_maps and options.heat_map_format == "png" else []
    return [*names, "error"]


def run(
    detector: Detector, files: Iterable[NamedFile], rows: Rows, options: PredictionOptions, report: Report
) -> Summary:
    """Scores files and writes a row for each, in order; a file that cannot be read gets a row with its error.

    Args:
        detector: the detector, with its network loaded.
        files: the files to score.
        rows: where results are written.
        options: options for heat maps and batches.
    """
    size, batch_size = detector.size, options.batch_size
    trained = frozenset(detector.data.images.values())

    def read(file: NamedFile) -> _Read:
        try:
            if file.error:
                return _Read(file, None, (0, 0), file.error)
            return _Read(file, *reading.read_resized(file.path, size, detector.how_read))
        except InputError as error:
            return _Read(file, None, (0, 0), str(error))

    began = last_report = time.monotonic()
    images = anomalous = trained_on = errors = 0
    for batch in _batches(
        parallel.in_order(read, files, ahead=batch_size), batch_size or image_features.batch_size(size)
    ):
        for image, result, written in _scored(detector, batch, options):
            rows.write(image.file.path, result, written, image.error)
            images += 1
            anomalous += bool(result and result.is_anomalous)
            trained_on += image.pixels is not None and reading.pixel_hash(image.pixels) in trained
            errors += image.pixels is None
        rows.flush()
        if time.monotonic() - last_report > _PAUSE:
            last_report = time.monotonic()
            report(f"{images} images, {images / (last_report - began):.1f} images/s")
    rows.flush()
    return Summary(images, anomalous, trained_on, errors, time.monotonic() - began)


def _batches(read: Iterator[_Read], size: int) -> Iterator[list[_Read]]:
    """Batches of `size` images each; errors at the start are passed on without waiting for an image."""
    batch: list[_Read] = []
    count = 0
    for image in read:
        batch.append(image)
        count += image.pixels is not None
        if count in (0, size):
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def _scored(
    detector: Detector, batch: list[_Read], options: PredictionOptions
) -> Iterator[tuple[_Read, Prediction | None, dict[str, Any]]]:
    """Each file, its prediction, and the columns about the heat maps that were written."""
    pixels = [image.pixels for image in batch if image.pixels is not None]
    predictions: list[Prediction] = []
    if pixels:
        scores, maps, _ = detector.score(np.stack(pixels), heat_maps=options.heat_maps is not None)
        sizes = [image.size for image in batch if image.pixels is not None]
        predictions = prediction.of(scores, maps, sizes, detector.decide(scores), detector.pixel_threshold)
    coming = iter(predictions)
    pairs = [(image, None if image.pixels is None else next(coming)) for image in batch]

    def with_maps(pair: tuple[_Read, Prediction | None]) -> tuple[_Read, Prediction | None, dict[str, Any]]:
        image, result = pair
        return image, result, _write_maps(detector, image, result, options) if result else {}

    return parallel.in_order(with_maps, pairs, ahead=parallel.cores())


def _write_maps(detector: Detector, image: _Read, result: Prediction, options: PredictionOptions) -> dict[str, Any]:
    """Writes an image's heat map if requested; reads the image again, so that few images are in memory."""
    if options.heat_maps is None or result.heat_map is None:
        return {}
    return heat_map_files.write(
        options.heat_maps / image.file.place,
        reading.read_pixels(image.file.path, detector.how_read),
        result.heat_map,
        [box[:4] for box in result.boxes or ()],
        region=None if image.pixels is None else detector.regions(image.pixels),
        pixel_threshold=detector.pixel_threshold,
        format=options.heat_map_format,
    )
