"""Predictions, as their command line and a program call them: first everything that can be checked in seconds."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from cutpaste_tf import devices, files, runs, surroundings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, named_files, unread
from cutpaste_tf.predicting import opened, stream
from cutpaste_tf.predicting.rows import Rows
from cutpaste_tf.predicting.stream import HeatMapFiles, Summary
from cutpaste_tf.progress import Report, say_aside


def predict(
    detector: str | Path,
    images: str,
    output: TextIO,
    *,
    format: str = "csv",
    heat_maps: HeatMapFiles = HeatMapFiles(),  # noqa: B008  immutable
    false_alarm_rate: float = 0.0,
    batch_size: int = 0,
    max_megapixels: float = 0.0,
    lines: Iterable[bytes] = (),
    report: Report = say_aside,
) -> Summary:
    """Scores images and writes a row for each as it goes.

    Args:
        detector: the folder of a complete run, a detector copied from one, or an export as SavedModel.
        images: a file, a folder, a pattern, or `-` for the names in `lines`.
        output: takes the rows.
        format: of the rows, one of `rows.FORMATS`.
        heat_maps: where to write heat maps.
        false_alarm_rate: of normal images that may be called anomalous; 0: the run's, see `DecisionSettings`.
        batch_size: images that are read ahead and scored together; 0: as an evaluation does.
        max_megapixels: images with more million pixels are errors; 0: as the run says.
        lines: names of files, one each.
        report: takes a line for the user.

    Returns:
        What was scored, and how many could not be read.

    Raises:
        InputError: before any long work.
    """
    surroundings.check()
    named_files.check(images)
    folder = heat_maps.folder
    if folder is not None:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"--heat_maps={folder} is there already and not an empty folder; name another one.")
        named_files.refuse_inside(folder, images, "--heat_maps", is_folder=True)
        files.check_writable(folder)
    found = opened.open_at(runs.find_detector(Path(detector)), false_alarm_rate, max_megapixels)
    began = time.monotonic()
    with devices.used(devices.AUTO):
        score = found.load()
        report(f"{found.told} (loaded in {time.monotonic() - began:.1f} s).")
        rows = Rows(output, format, stream.columns(found, heat_maps))
        passed_over: list[Path] = []
        named = named_files.listed(images, lines, passed_over=passed_over)
        done = stream.run(found, score, named, rows, heat_maps=heat_maps, batch_size=batch_size, report=report)
    scored = done.images - done.errors
    rate = f", {scored / done.seconds:.1f} images/s" if scored else ""
    failed = f"; {done.errors} more could not be read, see the rows with an error" if done.errors else ""
    decided = f": {done.anomalous} anomalous" if found.calibration else ""
    report(f"Scored {scored} images in {done.seconds:.1f} s{rate}{decided}{failed}.")
    for line in unread.passed_over([place for place in passed_over if folders.count(place)]):
        report(f"Note: {line}")
    if done.trained_on:
        report(f"Warning: {done.trained_on} of them are training images, whose scores are too low.")
    return done
