"""Evaluation, as its command line and a program call it: first everything that can be checked in seconds."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf import devices, files, processes, runs, surroundings
from cutpaste_tf.commands import test_sets
from cutpaste_tf.commands.options import HeatMapOptions, Presentation
from cutpaste_tf.detection import calibration
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation import ensembles, exports, scoring
from cutpaste_tf.images import layouts, reading, sources, synthetic
from cutpaste_tf.images.reading import ANOMALOUS, UNKNOWN
from cutpaste_tf.images.synthetic import SyntheticOptions
from cutpaste_tf.progress import Report, say
from cutpaste_tf.settings.base import IMAGE_MODEL, PATCH_MODEL, leaves, only_for
from cutpaste_tf.settings.config import NEW_AT_EVALUATION, Config
from cutpaste_tf.settings.data import ReadingSettings
from cutpaste_tf.training import tensorboard


def evaluate(
    run_dir: str | Path | Sequence[str | Path],
    data: str | Path = "",
    *,
    settings: Mapping[str, Any] | None = None,
    synthetic_options: SyntheticOptions | None = None,
    heat_map_options: HeatMapOptions = HeatMapOptions(),  # noqa: B008  immutable
    presentation: Presentation = Presentation(),  # noqa: B008  immutable
    calibration_data: str | Path = "",
    output_dir: str | Path | None = None,
    allow_trained: bool = False,
    tfds_data_dir: str = "",
    device_count: str = devices.AUTO,
    report: Report = say,
) -> dict[str, Any]:
    """Scores test images with the run in `run_dir`, or with several runs as one detector.

    Args:
        run_dir: the folder of a complete run, a detector copied from one, or an export; or several runs, for an
            ensemble, whose first gives the test images and settings, and which takes an `output_dir`.
        data: the test images: a folder, or the name of a set; empty for the run's own.
        settings: values by name of the groups that an evaluation may give anew, in place of the run's; the density is
            fitted anew where they decide it.
        synthetic_options: paste synthetic anomalies onto the normal test images and score those.
        heat_map_options: whether and how to localize.
        presentation: what to show beside scores and figures.
        calibration_data: a folder of normal images, others than were trained on, that give the threshold; empty: the
            training images give it.
        output_dir: to write to; by default a folder in `run_dir`, named after the settings, and after the data where
            they are not the run's own.
        allow_trained: whether test images may have the pixels of training images.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
        device_count: number of devices that compute, or `auto` for all that there are, see devices.py.
        report: takes a line for the user.

    Returns:
        What metrics.json holds, see `judging.judge`.

    Raises:
        InputError: before any long work.
    """
    surroundings.check()
    member_dirs = [Path(one) for one in ([run_dir] if isinstance(run_dir, str | Path) else run_dir)]
    run_dir = member_dirs[0]
    if len(member_dirs) > 1 and not output_dir:
        raise InputError("Several runs are one detector, an ensemble: give it an --output_dir.")
    if len(member_dirs) > 1 and any(map(runs.is_export, member_dirs)):
        raise InputError("An export is a detector of its own, and cannot be one of several.")
    if calibration_data and runs.is_export(run_dir):
        raise InputError("An export's threshold is what it was made with; leave out --calibration_data.")
    with processes.together():
        members = [(one, Config.read(runs.find_detector(one) / "config.json")) for one in member_dirs]
        saved = members[0][1]
        settings = dict(settings or {})
        layer, wanted = heat_map_options.gradcam_layer, heat_map_options.wanted
        _check_settings(saved, settings, heat_map_options)
        config = saved.replaced(**settings).resolved()
        reading_names = {field.name for field, _ in leaves(ReadingSettings)}
        named = {name: value for name, value in settings.items() if name not in reading_names}
        named |= {"gradcam_layer": layer} if layer else {}
        test_data = test_sets.own(run_dir, saved)
        data = str(data) or test_data or saved.data.data
        train_data = saved.data.data
        is_own = sources.is_same(data, train_data)
        if not is_own and test_sets.is_moved(data, run_dir, saved.resolved()):
            is_own, train_data = True, data
        scorers = [
            (exports.ExportScorer if runs.is_export(member_dir) else scoring.Scorer)(
                member_dir,
                member.resolved(),
                member.replaced(**settings).resolved(),
                train_data=train_data,
                tfds_data_dir=tfds_data_dir,
                allow_trained=allow_trained,
                report=report,
            )
            for member_dir, member in members
        ]
        scorer = scorers[0]
        ensembles.check(
            [
                (one, own.replaced(**settings).resolved(), each.data)
                for (one, own), each in zip(members, scorers, strict=True)
            ]
        )
        items = sources.list_test(
            data, config.data, trained=scorer.data.images if is_own else (), tfds_data_dir=tfds_data_dir
        )
        if is_own and all(item.label == UNKNOWN for item in items):
            raise InputError(f"{data} holds the training images and no test images; name those by --data.")
        is_own = is_own or (bool(test_data) and sources.is_same(data, test_data))
        other = "" if is_own else data
        folder = Path(output_dir) if output_dir else runs.eval_folder(run_dir, named, synthetic_options, other)
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "metrics.json").is_file():
            raise InputError(f"--output_dir={folder} holds something else than an evaluation; name another folder.")
        with sources.named_by(f"--calibration_data={calibration_data}"):
            fresh = sources.list_normal(calibration_data, config.data, tfds_data_dir) if calibration_data else []
        calibration.check(config.decision, len(fresh) or len(scorer.data.images))
        calibration.groups(list(scorer.data.images), config.density.group_by)
        has_masks = synthetic_options is not None or any(item.masks for item in items)
        localizes = bool(config.patch_size or has_masks or layer) if wanted is None else wanted
        board = (run_dir / tensorboard.FOLDER).is_dir() and len(members) == 1
        if presentation.tensorboard_images and not (localizes and board) and processes.part()[0] == 0:
            raise InputError(
                "--tensorboard_images shows heat maps, and there are none: give --heat_maps."
                if not localizes
                else f"--tensorboard_images needs {run_dir / tensorboard.FOLDER}/, of a run that was trained here."
            )
        from cutpaste_tf.evaluation import figures, judging  # matplotlib is slow to load

        others = figures.of_others(presentation.beside, data, items, synthetic_options)
        # Masks are read before any long work: one that does not fit its image is found here.
        examples = scorer.read_tests(items) if localizes or synthetic_options or presentation.page else None
        with sources.named_by(f"--calibration_data={calibration_data}"):
            normal = scorer.read_tests(fresh) if fresh else None
    processes.agree("test images", [(item.path, item.label, len(item.masks)) for item in items])
    lock = f".{hashlib.sha256(folder.name.encode()).hexdigest()[:16]}.lock"
    with contextlib.ExitStack() as held:
        with processes.together():
            held.enter_context(files.locked(folder.parent, lock))
            held.enter_context(devices.used(device_count))
        shown = data
        if synthetic_options and examples:
            shown = f"{data} with synthetic anomalies ({synthetic_options.shape}, {synthetic_options.fill})"
            examples = synthetic.with_twins(examples, synthetic_options, tfds_data_dir, report)
            pictures = folder.with_name(f"{folder.name}_images")
            with files.whole_folder(pictures) as partial:
                synthetic.save(examples, partial)
            report(f"Images with synthetic anomalies: {pictures}/")
        report(f"Scoring {shown}: {examples.note if examples else f'{len(items)} images'}.")
        test_sets.tell(data, items, config, examples, report)
        is_without = not has_masks and any(item.label == ANOMALOUS for item in items)
        if not localizes and wanted is None and is_without and not layouts.has_masks(sources.folder(data)):
            report("There are no masks (ground_truth/DEFECT/NAME_mask.png): no heat maps and no pixel figures.")
        found = [
            one.score(items, examples, keep=not synthetic_options, localize=localizes, gradcam_layer=layer)
            for one in scorers
        ]
        scored = ensembles.mean(found, config)
        if normal:
            report(f"Scoring {len(fresh)} normal images of {calibration_data} for the threshold.")
            found = [one.score(fresh, normal, keep=True, localize=False, gradcam_layer="") for one in scorers]
            known = ensembles.mean(found, config)
            if both := len({*normal.hashes} & {*scored.test.hashes}):
                report(f"Warning: {both} of the test images give the threshold as well: their decisions say little.")
            scored = scored._replace(held_out=known.test.features if config.patch_size else known.scores)
        result = judging.judge(
            folder,
            shown,
            config,
            scored=scored,
            train_images=len(scorer.data.images),
            examples=examples,
            gradcam_layer=layer,
            synthetic=synthetic_options._asdict() if synthetic_options else None,
            ensemble=[str(one) for one in member_dirs] if len(member_dirs) > 1 else None,
            location=data,
            others=others,
            with_page=presentation.page,
            report=report,
        )
        if board:
            sheet = folder / "heatmaps.png"
            pictures = {"heat_maps": reading.read_pixels(sheet)} if presentation.tensorboard_images else {}
            tensorboard.write_evaluation(run_dir, folder.name, result, pictures, report)
        return result


def _check_settings(saved: Config, settings: Mapping[str, Any], options: HeatMapOptions) -> None:
    """Refuses settings that the kind of model has not, or that training decided."""
    free = [field.name for field in NEW_AT_EVALUATION]
    if fixed := [name for name in settings if name not in free]:
        raise InputError(f"{', '.join(fixed)}: not for an evaluation to change, which may give: {', '.join(free)}.")
    other = only_for(Config, IMAGE_MODEL if saved.patch_size else PATCH_MODEL)
    if useless := ", ".join(f"--{name}" for name in settings if name in other):
        raise InputError(
            f"{useless}: not for patch models, whose density is gaussian."
            if saved.patch_size
            else f"{useless}: only for patch models, trained with --patch_size=64."
        )
    if options.gradcam_layer and saved.patch_size:
        raise InputError("--gradcam_layer is for image models; a patch model's heat maps come from its patches.")
    if options.gradcam_layer and options.wanted is False:
        raise InputError("--gradcam_layer is given, and --noheat_maps; leave one of them out.")
