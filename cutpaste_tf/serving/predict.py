"""Prediction: the function that the command and programs call."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from cutpaste_tf import devices, environment, files, partials
from cutpaste_tf.detection import calibration, loading
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, named_files, unread
from cutpaste_tf.pictures import heat_map_files
from cutpaste_tf.progress import Report, say_aside
from cutpaste_tf.serving import stream
from cutpaste_tf.serving.rows import Rows
from cutpaste_tf.serving.stream import PredictionOptions, Summary
from cutpaste_tf.settings import sizes

_UNFINISHED = ".unfinished"  # in a folder of heat maps, until the last one is written


def predict(
    detector: str | Path | Sequence[str | Path] | Detector,
    images: str,
    output: TextIO,
    *,
    options: PredictionOptions = PredictionOptions(),  # noqa: B008  immutable
    lines: Iterable[bytes] = (),
    report: Report = say_aside,
) -> Summary:
    """Scores images and writes a row for each as soon as it is scored.

    Args:
        detector: the folder of a complete run, a detector copied from one, or a SavedModel export; or several runs for
            an ensemble; or a fitted detector itself.
        images: a file, a folder, a pattern, or `-` for the names in `lines`.
        output: where rows are written.
        options: options for rows, heat maps and decisions.
        lines: names of files, one per line.

    Returns:
        What was scored, and how many files could not be read.

    Raises:
        InputError: before any long work.
    """
    environment.check()
    named_files.check(images)
    calibration.check_one_given(options.threshold, options.false_alarm_rate)
    if options.heat_maps is not None:
        _check_maps(options.heat_maps, images)
    opened = _configured(loading.load(detector), options).with_threshold(options.threshold)
    place = "given" if isinstance(detector, Detector) else ",".join(map(str, loading.places(detector)))
    description = _description(opened, place, options)
    began = time.monotonic()
    with devices.used(devices.AUTO), _maps(options.heat_maps):
        opened.prepare()
        report(f"{description} (loaded in {time.monotonic() - began:.1f} s).")
        rows = Rows(output, options.format, stream.columns(opened, options))
        passed_over: list[Path] = []
        named = named_files.listed(images, lines, passed_over=passed_over)
        summary = stream.run(opened, named, rows, options, report)
    for line in unread.passed_over([place for place in passed_over if folders.count(place)]):
        report(f"Note: {line}")
    _report(summary, report, decides=opened.calibration is not None)
    return summary


def _check_maps(folder: Path, images: str) -> None:
    """Checks that a folder for heat maps is new, empty, or was left by a prediction that was killed.

    Raises:
        InputError: it is not, or it cannot be written.
    """
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not (folder / _UNFINISHED).is_file():
        raise InputError(f"--heat_maps={folder} already exists and is not an empty folder; give another folder.")
    named_files.refuse_inside(folder, images, "--heat_maps", is_folder=True)
    files.check_writable(folder)


@contextlib.contextmanager
def _maps(folder: Path | None) -> Iterator[None]:
    """Marks a folder as unfinished while heat maps are written; those of a prediction that was killed are removed."""
    if folder is None:
        yield
        return
    with files.locked(folder, _UNFINISHED):
        for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            partials.remove_left(place)
        for path in heat_map_files.written(folder):
            path.unlink()
        yield
    (folder / _UNFINISHED).unlink()


def _configured(detector: Detector, options: PredictionOptions) -> Detector:
    settings = {"max_megapixels": options.max_megapixels} if options.max_megapixels else {}
    settings |= {"false_alarm_rate": options.false_alarm_rate} if options.false_alarm_rate else {}
    return detector.configured(detector.given.replaced(**settings)) if settings else detector


def _description(detector: Detector, place: str, options: PredictionOptions) -> str:
    """What the user should know about the detector.

    Raises:
        InputError: it has too few normal images for the rate.
    """
    text = f"Detector: {place}, {detector.description} of {sizes.shown(detector.size)} px"
    if detector.calibration is not None:
        threshold, rate = detector.threshold_and_rate(detector.calibration)
        return (
            f"{text}; threshold {threshold:.6g}, {100 * rate:.3g} % false alarms, from "
            f"{len(detector.calibration.scores)} normal images"
        )
    if options.false_alarm_rate:
        raise InputError(
            f"--false_alarm_rate={options.false_alarm_rate:g}: the detector in {place} has no scores of normal "
            "images, which set the threshold; train it again."
        )
    return f"{text}; it has no scores of normal images, so it makes no decisions"


def _report(summary: Summary, report: Report, *, decides: bool) -> None:
    scored = summary.images - summary.errors
    rate = f", {scored / summary.seconds:.1f} images/s" if scored else ""
    failed = f"; {summary.errors} more could not be read, see the rows with errors" if summary.errors else ""
    decided = f": {summary.anomalous} anomalous" if decides else ""
    report(f"Scored {scored} images in {summary.seconds:.1f} s{rate}{decided}{failed}.")
    if summary.trained_on:
        report(f"Warning: {summary.trained_on} of them are training images, whose scores are too low.")
