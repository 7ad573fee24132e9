"""Evaluation: the function that the command and programs call."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf import devices, environment, files
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.evaluation import plan as planning
from cutpaste_tf.evaluation import test_images
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.evaluation.plan import Plan
from cutpaste_tf.images import reading, synthetic
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report, say
from cutpaste_tf.training import tensorboard


def evaluate(
    run_dir: str | Path | Sequence[str | Path] | Detector,
    data: str | Path = "",
    *,
    settings: Mapping[str, Any] | None = None,
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008  immutable
    output_dir: str | Path | None = None,
    device_count: str = devices.AUTO,
    report: Report = say,
) -> dict[str, Any]:
    """Scores test images with the detector of a run, of several runs as an ensemble, or of an export.

    Args:
        run_dir: the folder of a complete run, a detector copied from one, or an export; or several runs for an
            ensemble, where the first run gives the test images and settings; or a fitted detector. The last two need
            an `output_dir`.
        data: the test images, as a folder or the name of a set; empty for the run's own.
        settings: values by name that replace the run's, in the groups that an evaluation may change; the density is
            refitted if they affect it.
        options: how to evaluate, and what to show.
        output_dir: the folder to write to; by default a folder in `run_dir`, named after the settings, and after the
            data if they are not the run's own.
        device_count: number of devices to use, or `auto` for all, see devices.py.

    Returns:
        The content of metrics.json, see `results.write`.

    Raises:
        InputError: before any long work.
    """
    environment.check()
    plan = planning.plan(run_dir, str(data), settings or {}, options, output_dir, report)
    lock = f".{hashlib.sha256(plan.folder.name.encode()).hexdigest()[:16]}.lock"
    with files.locked(plan.folder.parent, lock), devices.used(device_count):
        tests = _with_synthetic_anomalies(plan, report) if options.synthetic else plan.tests
        report(f"Scoring {_title(plan)}: {tests.description}.")
        _report_notes(plan, report)
        scores = plan.detector.score_set(tests, heat_maps=plan.localizes, report=report)
        plan = _calibrated(plan, tests, report)
        from cutpaste_tf.evaluation import results  # matplotlib is slow to load

        result = results.write(plan, _title(plan), tests, scores, report)
        _show_in_tensorboard(plan, result, report)
        return result


def _report_notes(plan: Plan, report: Report) -> None:
    for line in test_images.notes(plan.data, plan.tests, plan.detector.config):
        report(f"Note: {line}")
    is_open = plan.options.heat_maps is None and not plan.options.synthetic
    if is_open and not plan.localizes and test_images.lacks_masks(plan.data, plan.tests):
        report("There are no masks (ground_truth/DEFECT/NAME_mask.png), so no heat maps and no pixel metrics.")


def _title(plan: Plan) -> str:
    options = plan.options.synthetic
    return plan.data + (f" with synthetic anomalies ({options.shape}, {options.fill})" if options else "")


def _with_synthetic_anomalies(plan: Plan, report: Report) -> ImageSet:
    """The normal test images and their copies with an anomaly; both are also written next to the results."""
    assert plan.options.synthetic is not None
    has_regions = bool(plan.detector.config.data.reading.region)
    examples = synthetic.with_twins(
        plan.tests.examples, plan.options.synthetic, plan.options.tfds_data_dir, report, has_regions=has_regions
    )
    pictures = plan.folder.with_name(f"{plan.folder.name}_images")
    with files.whole_folder(pictures) as partial:
        synthetic.save(examples, partial)
    report(f"Images with synthetic anomalies: {pictures}/")
    return ImageSet.of(examples)


def _calibrated(plan: Plan, tests: ImageSet, report: Report) -> Plan:
    """The plan with its threshold: from the training images, from --calibration_data, or given by the user."""
    if plan.normal is not None:
        plan.normal.calibrate(plan.detector, report)
        if both := len({*plan.normal.hashes} & {*tests.hashes}):
            report(f"Warning: {both} of the test images also set the threshold, so decisions on them say little.")
    return plan._replace(detector=plan.detector.with_threshold(plan.options.threshold))


def _show_in_tensorboard(plan: Plan, result: Mapping[str, Any], report: Report) -> None:
    if len(plan.run_dirs) != 1 or not (plan.run_dirs[0] / tensorboard.FOLDER).is_dir():
        return
    run_dir = plan.run_dirs[0]
    sheet = plan.folder / "heatmaps.png"
    pictures = {"heat_maps": reading.read_pixels(sheet)} if plan.options.tensorboard_images else {}
    tensorboard.write_evaluation(run_dir, plan.folder.name, result, pictures, report)
