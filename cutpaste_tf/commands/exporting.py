"""Export, as its command line and a program call it: first everything that can be checked in seconds."""

import contextlib
import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import files, runs, surroundings
from cutpaste_tf.backend import tf
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.exporting import comparison, densities, record, saved_model, single_precision
from cutpaste_tf.exporting.graph import Graph
from cutpaste_tf.images import reading, sources
from cutpaste_tf.progress import Report, say
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config

SAVED_MODEL = "saved_model"
FORMATS = (SAVED_MODEL, *single_precision.FORMATS)


def export(
    run_dir: str | Path,
    output: str | Path,
    *,
    false_alarm_rate: float = 0.0,
    format: str = SAVED_MODEL,
    calibration_data: str | Path = "",
    comparison_images: str | Path = "",
    tfds_data_dir: str = "",
    report: Report = say,
) -> dict[str, Any]:
    """Writes a run's detector as a model that needs nothing of this package.

    Args:
        run_dir: the folder of a complete run, or a detector copied from one.
        output: the folder to write, whole or not at all; an export that lies there is replaced.
        false_alarm_rate: of normal images above the threshold, see `config.scoring.DecisionSettings`; 0: the run's.
        format: one of FORMATS.
        calibration_data: folder of normal images, others than were trained on, that give threshold and p-values; empty:
            the training images give them.
        comparison_images: folder of normal images that a format in single precision is compared on; empty: those of
            `calibration_data`, or else the training images.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
        report: takes a line for the user.

    Returns:
        What export.json holds, see `record.Record`.

    Raises:
        InputError: before any long work; and where decisions in single precision differ from the evaluation's.
    """
    surroundings.check()
    run_dir, output = Path(run_dir), Path(output)
    detector_dir = _check(run_dir, output, false_alarm_rate, format)
    given, data = Config.read(detector_dir / "config.json"), TrainingData.read(detector_dir)
    given = given.replaced(false_alarm_rate=false_alarm_rate) if false_alarm_rate else given
    config = given.resolved()
    is_single = format in single_precision.FORMATS
    fresh = _fresh_images(config, data, calibration_data, tfds_data_dir) if calibration_data else None
    images = (
        _comparison_images(config, data, comparison_images or calibration_data, tfds_data_dir)
        if is_single
        else np.empty(0)
    )
    detector = Detector.load(detector_dir)
    if fresh is not None:
        report(f"Scoring {len(fresh)} normal images of {calibration_data} for the threshold.")
        detector.calibrate(fresh)
    if detector.calibration is None or detector.held_out is None:
        raise InputError(
            f"The detector in {detector_dir} knows no scores of normal images, which thresholds come from: it was made "
            "by an earlier version of cutpaste_tf, or of too few images; train it again."
        )
    rate = detector.calibration.rate(config.decision)
    threshold = detector.calibration.threshold(rate)
    given = given.replaced(false_alarm_rate=rate)  # an evaluation of the export decides as the export does
    difference = None
    report(f"Exporting the detector in {detector_dir} as {format}.")
    with _told(output), files.whole_folder(output) as partial:
        model = partial / "model"
        model.mkdir()
        if is_single:
            path = model / single_precision.FORMATS[format].file
            single_precision.write(path, format, detector, threshold)
            difference = comparison.compare(single_precision.score(path, format, images), detector, threshold, images)
        else:
            graph = Graph(detector, threshold)
            saved_model.write(model / record.SAVED_MODEL, graph, config.data.image_size)
        found = record.Record(
            format=format,
            image_size=config.data.image_size,
            false_alarm_rate=rate,
            threshold=threshold,
            calibration_images=len(detector.calibration.scores),
            training_data=record.training_digest(data),
            versions=record.versions(),
            files=record.digests(model),
            difference=difference._asdict() if difference else None,
        )
        for path in model.iterdir():
            path.replace(partial / path.name)
        model.rmdir()
        data.write(partial)
        calibration.write(partial / runs.CALIBRATION, detector.held_out)
        (partial / "config.json").write_text(given.to_json(), encoding="utf-8")
        found.write(partial)
    report(
        f"Threshold {threshold:.6g}: {100 * rate:.3g} % false alarms, by the scores of "
        f"{found.calibration_images} normal images."
    )
    if difference:
        report(
            f"Scores differ from the evaluation's by up to {difference.score:.3g}, "
            f"{100 * difference.score_of_range:.2g} % of their range, on {difference.images} images."
        )
    next_step = "" if is_single else f"   Next: python eval_main.py --run_dir={shlex.quote(str(output))}"
    report(f"Export: {output}/ ({', '.join(sorted(path.name for path in output.iterdir()))}){next_step}")
    return dataclasses.asdict(found)


def _check(run_dir: Path, output: Path, false_alarm_rate: float, format: str) -> Path:
    """The detector's folder, after everything was checked that takes no TensorFlow."""
    if format not in FORMATS:
        raise InputError(f"--format={format} is not known; it must be one of: {', '.join(FORMATS)}.")
    if not 0 <= false_alarm_rate < 1:
        raise InputError(f"--false_alarm_rate={false_alarm_rate} must lie between 0 and 1.")
    if surroundings.backend() != "tensorflow":
        raise InputError(
            f"An export is written by TensorFlow, and KERAS_BACKEND is {surroundings.backend()}: give "
            "KERAS_BACKEND=tensorflow, also for a run that was trained on another."
        )
    if runs.is_export(run_dir):
        raise InputError(f"--run_dir={run_dir} is an export already; name the run that it was made of.")
    detector_dir = runs.find_detector(run_dir)
    config = Config.read(detector_dir / "config.json")
    if not config.patch_size:
        densities.check(config.density.density)
    if format != SAVED_MODEL:
        single_precision.check(format)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; name a folder.")
    if output.is_dir() and any(output.iterdir()) and not runs.is_export(output):
        raise InputError(f"--output={output} holds something else than an export; name another folder.")
    files.check_writable(output)
    return detector_dir


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tells of a full disk, or of a folder that cannot be written, in TensorFlow's words or Python's."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}).") from None
    except tf.errors.OpError as error:
        said = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", str(error.message))  # names of operations
        reason = next(iter(said.splitlines()), type(error).__name__)
        raise InputError(f"{folder} cannot be written ({reason}).") from None


def _fresh_images(config: Config, data: TrainingData, named: str | Path, tfds_data_dir: str) -> np.ndarray:
    """Images uint8 [count, side, side, 3] for the threshold.

    Raises:
        InputError: they cannot be read, were trained on, or are too few for the rate.
    """
    settings = dataclasses.replace(config.data, white=data.white)
    with sources.named_by(f"--calibration_data={named}"):
        items = sources.list_normal(named, settings, tfds_data_dir)
        calibration.check(config.decision, len(items))
        found = reading.read(items, config.data.image_size, settings)
        data.refuse(found.paths, found.hashes, "Name images that were not trained on.")
    return found.images


def _comparison_images(config: Config, data: TrainingData, named: str | Path, tfds_data_dir: str) -> np.ndarray:
    """Images uint8 [count, side, side, 3] to compare formats on, of those that are named, or the training images."""
    settings = dataclasses.replace(config.data, white=data.white)
    place, trained = (named, None) if named else (config.data.data, data.images)
    try:
        items = sources.list_train(place, settings, trained=trained, tfds_data_dir=tfds_data_dir)
    except InputError as error:
        if named:
            raise
        raise InputError(
            "This format is compared with the evaluation on the training images, which are not where they were "
            f"({str(error).rstrip('.')}): name a folder of normal images by --comparison_images."
        ) from None
    chosen = [items[index] for index in comparison.chosen(len(items))]
    return comparison.with_mirrored(reading.read(chosen, config.data.image_size, settings).images)
