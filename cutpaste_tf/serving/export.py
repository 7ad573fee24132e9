"""Export: the function that the command and programs call."""

import contextlib
import dataclasses
import functools
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import environment, files, runs
from cutpaste_tf.backend import tf
from cutpaste_tf.detection import calibration, loading, record
from cutpaste_tf.detection.calibration import Calibration
from cutpaste_tf.detection.calibration_images import CalibrationImages
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.graphs import densities
from cutpaste_tf.detection.graphs.graph import Graph
from cutpaste_tf.detection.record import Record
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading, sources
from cutpaste_tf.progress import Report, say
from cutpaste_tf.serving import comparison, saved_model, single_precision
from cutpaste_tf.serving.comparison import Difference

SAVED_MODEL = "saved_model"
FORMATS = (SAVED_MODEL, *single_precision.FORMATS)


class ExportOptions(NamedTuple):
    """How to export.

    Attributes:
        format: one of FORMATS.
        false_alarm_rate: fraction of normal images above the threshold, see `DecisionSettings`; 0: the run's.
        threshold: the score above which an image is anomalous; None: the threshold from the false alarm rate.
        calibration_data: folder of normal images, not used for training, that set threshold and p-values; empty: the
            run's own.
        comparison_images: folder of normal images to compare a single-precision format on; empty: those of
            `calibration_data`, or else the training images.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
    """

    format: str = SAVED_MODEL
    false_alarm_rate: float = 0.0
    threshold: float | None = None
    calibration_data: str | Path = ""
    comparison_images: str | Path = ""
    tfds_data_dir: str = ""


def export(
    run_dir: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    options: ExportOptions = ExportOptions(),  # noqa: B008  immutable
    report: Report = say,
) -> dict[str, Any]:
    """Writes the detector of a run, or of several runs as an ensemble, as a model that does not need this package.

    Args:
        run_dir: the folder of a complete run, or a detector copied from one; or several runs for an ensemble.
        output: the folder to write, atomically. If it is an export, its last SavedModel is kept as the previous
            version; the rest is replaced.
        options: how to export.

    Returns:
        The content of export.json, see `record.Record`.

    Raises:
        InputError: before any long work; or if decisions in single precision differ from the evaluation's.
    """
    environment.check()
    output = Path(output)
    detector, images = _check(run_dir, output, options, report)
    normal = _calibration(detector, options, report)
    detector = detector.with_threshold(options.threshold)
    threshold, rate = detector.threshold_and_rate(normal)
    report(f"Exporting {detector.description} as {options.format}.")
    with _write_errors(output), files.whole_folder(output) as partial:
        version = _next_version(output, partial) if options.format == SAVED_MODEL else 1
        model = partial / _model_file(options.format, version)
        difference = _write_model(model, detector, normal, threshold, options.format, images)
        result = Record(
            format=options.format,
            version=version,
            image_size=detector.size,
            false_alarm_rate=rate,
            threshold=threshold,
            threshold_is_given=options.threshold is not None,
            pixel_threshold=detector.pixel_threshold,
            calibration_images=len(normal.scores),
            training_data=record.training_digest(detector.data),
            versions=record.versions(),
            files=record.digests(model),
            difference=difference._asdict() if difference else None,
            white=detector.data.white,
            background=detector.config.data.background,
        )
        detector.data.write(partial)
        calibration.write_export(partial, normal)
        # An evaluation of the export decides like the export itself.
        config = detector.given.replaced(false_alarm_rate=rate)
        (partial / "config.json").write_text(config.to_json(), encoding="utf-8")
        result.write(partial)
    _report(result, output, report)
    return dataclasses.asdict(result)


def _model_file(format: str, version: int) -> str:
    """Name of the model in an export: a file, or the SavedModel's folder."""
    return str(version) if format == SAVED_MODEL else single_precision.FORMATS[format].file


def _next_version(output: Path, partial: Path) -> int:
    """The number of the next version; the previous version is kept, since a server may be using it."""
    versions = [int(path.name) for path in output.glob("*") if path.name.isdigit()] if output.is_dir() else []
    if versions:
        shutil.copytree(output / str(max(versions)), partial / str(max(versions)))
    return max(versions, default=0) + 1


def _check(
    run_dir: str | Path | Sequence[str | Path], output: Path, options: ExportOptions, report: Report
) -> tuple[Detector, np.ndarray]:
    """The detector, and images to compare formats on, after all checks that do not need the network."""
    if options.format not in FORMATS:
        raise InputError(f"--format={options.format} is unknown; it must be one of: {', '.join(FORMATS)}.")
    if not 0 <= options.false_alarm_rate < 1:
        raise InputError(f"--false_alarm_rate={options.false_alarm_rate} must be between 0 and 1.")
    if environment.backend() != "tensorflow":
        raise InputError(
            f"TensorFlow writes exports, but KERAS_BACKEND is {environment.backend()}; set KERAS_BACKEND=tensorflow, "
            "even for a run that was trained on another backend."
        )
    calibration.check_one_given(options.threshold, options.false_alarm_rate)
    for folder in loading.places(run_dir):
        if runs.is_export(folder):
            raise InputError(f"--run_dir={folder} is already an export; give the run it was made from.")
    detector = loading.load(run_dir)
    if options.false_alarm_rate:
        detector = detector.configured(detector.given.replaced(false_alarm_rate=options.false_alarm_rate))
    if "density" not in detector.unused_settings:
        densities.check(detector.config.density.density)
    if options.format != SAVED_MODEL:
        single_precision.check(options.format)
    if detector.config.data.reading.region and not detector.data.region:
        raise InputError(
            "The run cannot be exported: an export has one --region for all images, but the run has one for each image."
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; give a folder.")
    if output.is_dir() and any(output.iterdir()) and not runs.is_export(output):
        raise InputError(f"--output={output} is not the folder of an export; give another folder.")
    files.check_writable(output)
    images = _comparison_images(detector, options) if options.format != SAVED_MODEL else np.empty(0)
    return detector, images


def _write_model(
    path: Path, detector: Detector, normal: Calibration, threshold: float, format: str, images: np.ndarray
) -> Difference | None:
    """Writes the model; compares a single-precision format with the detector on the images."""
    is_single = format != SAVED_MODEL
    graph = Graph(detector.graph(single=is_single), normal.scores, threshold, region=detector.region, single=is_single)
    if not is_single:
        saved_model.write(path, graph, detector.size)
        return None
    single_precision.write(path, format, graph, detector.size)
    return comparison.compare(single_precision.score(path, format, images), detector, threshold, images)


def _calibration(detector: Detector, options: ExportOptions, report: Report) -> Calibration:
    """How normal images score: the training images or those in --calibration_data."""
    if options.calibration_data:
        images = CalibrationImages(
            options.calibration_data,
            detector.size,
            detector.how_read,
            check=functools.partial(detector.data.refuse, mend="Give images that were not used for training."),
            tfds_data_dir=options.tfds_data_dir,
            report=report,
        )
        images.read(detector.config.decision)
        images.calibrate(detector, report)
    if detector.calibration is None:
        raise InputError(
            f"The detector, {detector.description}, has no scores of normal images, which set the threshold: it was "
            "made by an earlier version of cutpaste_tf or from too few images; train it again."
        )
    return detector.calibration


def _comparison_images(detector: Detector, options: ExportOptions) -> np.ndarray:
    """Images uint8 [count, height, width, 3] to compare formats on: those in the given folder, or training images."""
    named = options.comparison_images or options.calibration_data
    place, trained = (named, None) if named else (detector.config.data.data, detector.data.images)
    listed = sources.list_train if named else sources.list_fitted
    try:
        items = listed(place, detector.how_read, trained=trained, tfds_data_dir=options.tfds_data_dir)
    except InputError as error:
        if named:
            raise
        raise InputError(
            "This format is compared with the evaluation on the training images, which are no longer where they were "
            f"({str(error).rstrip('.')}); give a folder of normal images as --comparison_images."
        ) from None
    chosen = [items[index] for index in comparison.chosen(len(items))]
    return comparison.with_mirrored(reading.read(chosen, detector.size, detector.how_read).images)


def _report(written: Record, output: Path, report: Report) -> None:
    report(
        f"Threshold {written.threshold:.6g}: {100 * written.false_alarm_rate:.3g} % false alarms, from the scores of "
        f"{written.calibration_images} normal images."
    )
    if difference := written.difference:
        report(
            f"Scores differ from the evaluation's by up to {difference['score']:.3g}, "
            f"{100 * difference['score_of_range']:.2g} % of their range, on {difference['images']} images."
        )
    is_evaluated = written.format == SAVED_MODEL
    next_step = f"   Next: python eval_main.py --run_dir={shlex.quote(str(output))}" if is_evaluated else ""
    report(f"Export: {output}/ ({', '.join(sorted(path.name for path in output.iterdir()))}){next_step}")


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Turns TensorFlow's or Python's errors about a full disk or an unwritable folder into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}).") from None
    except tf.errors.OpError as error:
        message = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", str(error.message))  # names of operations
        reason = next(iter(message.splitlines()), type(error).__name__)
        raise InputError(f"{folder} cannot be written ({reason}).") from None
