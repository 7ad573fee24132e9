"""Checks an evaluation in seconds: which detector, which images, where results go."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cutpaste_tf import runs
from cutpaste_tf.detection import calibration, loading
from cutpaste_tf.detection.cache import FeatureCache
from cutpaste_tf.detection.calibration_images import CalibrationImages
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation import test_images
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import regions, sources
from cutpaste_tf.images.image_set import Check, ImageSet
from cutpaste_tf.progress import Report
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import NEW_AT_EVALUATION, Config
from cutpaste_tf.settings.data import ReadingSettings
from cutpaste_tf.training import tensorboard


class Plan(NamedTuple):
    """What an evaluation will do.

    Attributes:
        run_dirs: folders of the runs; several for an ensemble, none if a detector was given.
        detector: the detector with the evaluation's settings.
        data: the name of the test images.
        tests: the test images.
        normal: other normal images that set the threshold; None: the training images set it.
        localizes: whether to make heat maps.
        folder: where results go.
        others: metrics.json of evaluations to compare with, by folder.
        options: options of the evaluation.
    """

    run_dirs: list[Path]
    detector: Detector
    data: str
    tests: ImageSet
    normal: CalibrationImages | None
    localizes: bool
    folder: Path
    others: dict[str, dict[str, Any]]
    options: EvaluationOptions


def plan(
    run_dir: str | Path | Sequence[str | Path] | Detector,
    data: str,
    settings: Mapping[str, Any],
    options: EvaluationOptions,
    output_dir: str | Path | None,
    report: Report,
) -> Plan:
    """Checks what can be checked in seconds; arguments as for `evaluate.evaluate`.

    Raises:
        InputError: the evaluation is not possible as requested.
    """
    run_dirs = [] if isinstance(run_dir, Detector) else loading.places(run_dir)
    if len(run_dirs) != 1 and not output_dir:
        raise InputError("An ensemble, or a detector that is not in a run, needs an --output_dir.")
    saved = loading.load(run_dir)
    _check_settings(saved, settings, options)
    detector = saved.configured(saved.given.replaced(**settings), gradcam_layer=options.gradcam_layer)
    test_data = test_images.named_for(run_dirs, saved.config)
    data = data or test_data or saved.config.data.data
    is_trained_on = sources.is_same(data, saved.config.data.data)
    is_moved = not is_trained_on and test_images.is_moved(data, saved)
    for folder, member in zip(run_dirs, detector.members if run_dirs else [], strict=True):
        _attach(member, folder, data if is_moved else member.config.data.data, options, report)
    tests = _tests(detector, data, options, report, is_trained_on=is_trained_on or is_moved)
    is_own = is_trained_on or is_moved or (bool(test_data) and sources.is_same(data, test_data))
    folder = Path(output_dir) if output_dir else _folder(run_dirs[0], settings, options, "" if is_own else data)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "metrics.json").is_file():
        raise InputError(f"--output_dir={folder} is not the folder of an evaluation; give another folder.")
    normal = _normal_images(detector, settings, data if is_moved else saved.config.data.data, options, report)
    if normal:
        normal.read(detector.config.decision)
    else:
        calibration.check(detector.config.decision, len(detector.data.images))
    calibration.groups(detector.data, detector.config.density.group_by)
    choice, has_masks = options.heat_maps, bool(options.synthetic) or any(item.masks for item in tests.items)
    localizes = (
        choice if choice is not None else bool(detector.maps_come_with_scores or has_masks or options.gradcam_layer)
    )
    _check_tensorboard(run_dirs, options, localizes=localizes)
    from cutpaste_tf.evaluation import figures  # matplotlib is slow to load

    others = figures.of_others(options.beside, data, tests.items, options.synthetic)
    # Masks are read before any long work, so a mask that does not fit its image is refused early.
    if localizes or options.synthetic or options.page:
        _ = tests.examples
    return Plan(run_dirs, detector, data, tests, normal, localizes, folder, others, options)


def _attach(member: Detector, run_dir: Path, data: str, options: EvaluationOptions, report: Report) -> None:
    """Lets a detector use what its run's folder stores; `data` is where its training images are."""
    place = runs.find_detector(run_dir)
    training = TrainingImages(
        run_dir,
        Config.read(place / "config.json").resolved(),
        member.data,
        dataclasses.replace(member.how_read, data=data),
        tfds_data_dir=options.tfds_data_dir,
        report=report,
    )
    member.attach(FeatureCache(run_dir / runs.EMBEDDINGS, place / runs.MODEL, report), training)


def _tests(
    detector: Detector, data: str, options: EvaluationOptions, report: Report, *, is_trained_on: bool
) -> ImageSet:
    trained = detector.data.images if is_trained_on else ()
    items = sources.list_test(data, detector.config.data, trained=trained, tfds_data_dir=options.tfds_data_dir)
    if is_trained_on and all(item.label == test_images.UNKNOWN for item in items):
        raise InputError(f"{data} holds the training images but no test images; give those as --data.")
    check = _check(detector, options)
    return ImageSet(items, detector.size, detector.how_read, check=check, report=report)


def _normal_images(
    detector: Detector, settings: Mapping[str, Any], where: str, options: EvaluationOptions, report: Report
) -> CalibrationImages | None:
    """The images of --calibration_data, or those that set the threshold in training if this has to be done again."""
    place = options.calibration_data
    if place and detector.threshold_is_fixed:
        raise InputError("An export's threshold is fixed when it is made; omit --calibration_data.")
    if not place and settings:
        place = sources.validation(where, detector.config.data)
    if not place:
        return None
    return CalibrationImages(
        place,
        detector.size,
        detector.how_read,
        check=_check(detector, options),
        tfds_data_dir=options.tfds_data_dir,
        is_given=bool(options.calibration_data),
        report=report,
    )


def _check(detector: Detector, options: EvaluationOptions) -> Check:
    """Refuses the training images among others, unless the user allows them."""

    def check(paths: list[str], hashes: Sequence[str]) -> None:
        if not options.allow_trained_images:
            detector.data.refuse(paths, hashes)

    return check


def _check_settings(saved: Detector, settings: Mapping[str, Any], options: EvaluationOptions) -> None:
    """Refuses settings that the detector does not use, or that were fixed in training."""
    free = [field.name for field in NEW_AT_EVALUATION]
    if fixed := [name for name in settings if name not in free]:
        raise InputError(f"{', '.join(fixed)}: an evaluation can change only these settings: {', '.join(free)}.")
    if useless := ", ".join(f"--{name}" for name in settings if name in saved.unused_settings):
        raise InputError(f"{useless}: {saved.description} does not use this; omit it.")
    density = saved.config.density.replaced(**{name: settings[name] for name in settings if name == "density"})
    if useless := ", ".join(f"--{name}" for name in settings if name in density.unused):
        raise InputError(f"{useless}: --density={density.density} does not use this; omit it.")
    if "region" in settings:
        if not saved.config.data.reading.region or saved.data.region:
            raise InputError(
                "--region: the detector was fitted with the region from training; train again to change it."
            )
        regions.check(settings["region"])
    calibration.check_one_given(options.threshold, settings.get("false_alarm_rate"))
    if options.gradcam_layer and options.heat_maps is False:
        raise InputError("--gradcam_layer and --noheat_maps are both given; omit one of them.")


def _folder(run_dir: Path, settings: Mapping[str, Any], options: EvaluationOptions, other_data: str) -> Path:
    """The folder for the results in the run's folder, named after the changed settings."""
    reading_names = {field.name for field, _ in leaves(ReadingSettings)}
    named = {name: value for name, value in settings.items() if name not in reading_names}
    named |= {"gradcam_layer": options.gradcam_layer} if options.gradcam_layer else {}
    named |= {} if options.threshold is None else {"threshold": options.threshold}
    return runs.eval_folder(run_dir, named, options.synthetic, other_data)


def _check_tensorboard(run_dirs: Sequence[Path], options: EvaluationOptions, *, localizes: bool) -> None:
    if not options.tensorboard_images:
        return
    if not localizes:
        raise InputError("--tensorboard_images shows heat maps, but there are none; add --heat_maps.")
    if len(run_dirs) != 1 or not (run_dirs[0] / tensorboard.FOLDER).is_dir():
        raise InputError(f"--tensorboard_images needs a run that was trained here, with a folder {tensorboard.FOLDER}.")
