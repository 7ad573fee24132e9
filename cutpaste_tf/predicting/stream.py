"""Files -> rows, one batch after the other: read by all cores, scored, and written, all while the next are read."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf.detection import prediction, whole
from cutpaste_tf.detection.prediction import Prediction
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import parallel, reading
from cutpaste_tf.images.named_files import NamedFile
from cutpaste_tf.pictures import heat_map_files
from cutpaste_tf.predicting.opened import Opened, Score
from cutpaste_tf.predicting.rows import Rows
from cutpaste_tf.progress import Report

_PAUSE = 30.0  # seconds between lines on how far it is


class HeatMapFiles(NamedTuple):
    """Where heat maps are written.

    Attributes:
        folder: a new one, or an empty one; None: none are written.
        format: one of `heat_map_files.FORMATS`.
    """

    folder: Path | None = None
    format: str = "npy"


class Summary(NamedTuple):
    """What was scored.

    Attributes:
        images: that were named.
        anomalous: of them, by the threshold.
        trained_on: of them, which the detector was fitted to: their scores are too low.
        errors: of them, which could not be read.
        seconds: from the first file to the last row.
    """

    images: int
    anomalous: int
    trained_on: int
    errors: int
    seconds: float


class _Read(NamedTuple):
    """A file that was read: pixels uint8 [side, side, 3] and its own (width, height); or no pixels, and an error."""

    file: NamedFile
    pixels: np.ndarray | None
    size: tuple[int, int]
    error: str = ""


def columns(opened: Opened, heat_maps: HeatMapFiles) -> list[str]:
    """Of the rows that `run` writes."""
    found = ["path", "score"]
    found += ["p_value", "decision"] if opened.calibration else []
    found += ["boxes"] if opened.pixel_threshold is not None else []
    found += ["heat_map", "overlay"] if heat_maps.folder else []
    found += ["heat_of_65535"] if heat_maps.folder and heat_maps.format == "png" else []
    return [*found, "error"]


def run(
    opened: Opened,
    score: Score,
    files: Iterable[NamedFile],
    rows: Rows,
    *,
    heat_maps: HeatMapFiles,
    batch_size: int,
    report: Report,
) -> Summary:
    """Scores files and writes a row for each, in their order; one that cannot be read is a row with its error.

    Args:
        opened: the detector.
        score: its network, as of `opened.load`.
        files: to score.
        rows: take the results.
        heat_maps: where those are written.
        batch_size: files that are read ahead and scored together; 0: as an evaluation does.
        report: takes a line for the user now and then.
    """
    side = opened.config.data.image_size

    def read(file: NamedFile) -> _Read:
        try:
            if file.error:
                return _Read(file, None, (0, 0), file.error)
            return _Read(file, *reading.read_resized(file.path, side, opened.how_read))
        except InputError as error:
            return _Read(file, None, (0, 0), str(error))

    began = said = time.monotonic()
    images = anomalous = trained_on = errors = 0
    for batch in _batches(parallel.in_order(read, files, ahead=batch_size), batch_size or whole.batch_size(side)):
        for one, found, written in _scored(opened, score, batch, heat_maps):
            rows.write(one.file.path, found, written, one.error)
            images += 1
            anomalous += bool(found and found.is_anomalous)
            trained_on += one.pixels is not None and reading.pixel_hash(one.pixels) in opened.trained
            errors += one.pixels is None
        rows.flush()
        if time.monotonic() - said > _PAUSE:
            said = time.monotonic()
            report(f"{images} images, {images / (said - began):.1f} images/s")
    rows.flush()
    return Summary(images, anomalous, trained_on, errors, time.monotonic() - began)


def _batches(read: Iterator[_Read], size: int) -> Iterator[list[_Read]]:
    """What was read, with so many images at a time; errors that no image stands before do not wait for one."""
    held: list[_Read] = []
    count = 0
    for one in read:
        held.append(one)
        count += one.pixels is not None
        if count in (0, size):
            yield held
            held, count = [], 0
    if held:
        yield held


def _scored(
    opened: Opened, score: Score, batch: list[_Read], heat_maps: HeatMapFiles
) -> Iterator[tuple[_Read, Prediction | None, dict[str, Any]]]:
    """What was read, what the detector says of it, and the columns of the heat maps that were written."""
    pixels = [one.pixels for one in batch if one.pixels is not None]
    predictions: list[Prediction] = []
    if pixels:
        scores, maps = score(np.stack(pixels), heat_maps.folder is not None)
        sizes = [one.size for one in batch if one.pixels is not None]
        predictions = prediction.of(scores, maps, sizes, opened.calibration, opened.config.decision)
    coming = iter(predictions)
    pairs = [(one, None if one.pixels is None else next(coming)) for one in batch]

    def with_maps(pair: tuple[_Read, Prediction | None]) -> tuple[_Read, Prediction | None, dict[str, Any]]:
        one, found = pair
        return one, found, _write_maps(opened, one, found, heat_maps) if found else {}

    return parallel.in_order(with_maps, pairs, ahead=parallel.cores())


def _write_maps(opened: Opened, one: _Read, found: Prediction, heat_maps: HeatMapFiles) -> dict[str, Any]:
    """Writes an image's heat map, if that is asked for; the image is read again, so that few are in memory."""
    if heat_maps.folder is None or found.heat_map is None:
        return {}
    return heat_map_files.write(
        heat_maps.folder / one.file.place,
        reading.read_pixels(one.file.path, opened.how_read),
        found.heat_map,
        [box[:4] for box in found.boxes or ()],
        pixel_threshold=opened.pixel_threshold,
        format=heat_maps.format,
    )
