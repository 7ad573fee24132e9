"""What the command lines do: check everything that can be checked in seconds, then load TensorFlow and work.

Kept apart from the mains so that a test, or another program, can call it. This module must not
import TensorFlow at its top: bad input is refused before the seconds that takes.
"""

import collections
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import datasets, folders, images, prepared, runs, scoring, surroundings, synthetic, weights
from cutpaste_tf.config import DENSE_SETTINGS, READING_SETTINGS, VIEWS, Config
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples

_SHEET_ROWS = 5


class SyntheticOptions(NamedTuple):
    """What `eval_main.py --synthetic` asks for.

    Attributes:
        shape: one of `synthetic.SHAPES`.
        fill: one of `synthetic.FILLS`.
        images: folder of natural images; empty for scikit-learn's.
        seed: of the drawing.
    """

    shape: str
    fill: str
    images: str
    seed: int


class HeatMapOptions(NamedTuple):
    """How `eval_main.py` localizes.

    Attributes:
        wanted: whether to make heat maps; None: for a patch model, where there are masks, and with `gradcam_layer`.
        gradcam_layer: of an image model, see `gradcam.GradCam`.
    """

    wanted: bool | None = None
    gradcam_layer: str = ""


def train(
    config: Config,
    output_dir: Path,
    location: str | Path,
    *,
    checkpoint_minutes: float,
    test_location: str | Path = "",
    tfds_data_dir: str = "",
) -> None:
    """Trains a run, or resumes it, or finds it complete.

    Args:
        config: the configuration.
        output_dir: the run's folder.
        location: what `config.data` stands for: a folder, or the name of a prepared set.
        checkpoint_minutes: time between checkpoints.
        test_location: what `config.test_data` stands for, to see that it is there.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.

    Raises:
        InputError: before any long work.
    """
    surroundings.check()
    config = _with_canonical_names(config, location, test_location)
    name = config.data
    runs.check(output_dir, config)
    begun = (output_dir / "config.json").is_file()
    trained = runs.TrainingData.read(output_dir).images if begun else None
    if config.head_epochs and not config.weights:
        print("Warning: without --weights the frozen backbone keeps its random weights.")
    _check_weights(config)
    items = _list_train(config, output_dir, location, tfds_data_dir, trained)
    if test_location:
        tested = datasets.list_test(test_location, config.data_settings, tfds_data_dir=tfds_data_dir)
        datasets.refuse_overlap(items, tested, str(test_location))
    examples = images.read(items, config.image_size, config.data_settings)
    if config.density == "mixture" and config.mixture_components > len(examples.images):
        raise InputError(f"--mixture_components={config.mixture_components} is more than the training images.")
    if (config.is_efficientnet or config.feature != "pool") and not runs.is_complete(output_dir):
        from cutpaste_tf import training

        training.check(config)
    with runs.locked(output_dir):
        config = runs.open_run(output_dir, config, runs.TrainingData.of(examples))
        print(f"Training on {name}: {examples.note}.")
        _tell_of_folders(location, items, config, examples)
        if len(examples.images) < 20:
            print(f"Warning: {len(examples.images)} training images are few; expect a poor density.")
        if runs.is_complete(output_dir):
            print(f"The run in {output_dir} is complete already.")
        else:
            from cutpaste_tf import training

            training.train(config, examples, output_dir, checkpoint_minutes=checkpoint_minutes, report=_say)
    print(f"Detector: {output_dir}/detector/   Next: python eval_main.py --run_dir={output_dir}")


def show_augmentations(config: Config, output_dir: Path, location: str | Path, *, tfds_data_dir: str = "") -> None:
    """Writes a sheet of every task's augmentations of a few training images; trains nothing.

    Arguments and errors as `train`. The sheet is OUTPUT_DIR/proxy_tasks.png.
    """
    surroundings.check()
    saliency_weights = None
    if config.saliency_weights or (config.weights and not config.is_efficientnet):
        saliency_weights = weights.read_saliency_network(config)
    else:
        print("Without cutswap, whose saliency needs --saliency_weights.")
    _check_weights(config)
    items = _list_train(config, output_dir, location, tfds_data_dir, None)
    examples = images.read(items, config.image_size, config.data_settings)
    output_dir.mkdir(parents=True, exist_ok=True)
    from cutpaste_tf import pipeline, plots, saliency

    rows = np.linspace(0, len(examples.images) - 1, min(_SHEET_ROWS, len(examples.images))).astype(int)
    sources = np.array(examples.images[rows])
    columns = {"source": sources.astype(np.float32) / 255}
    for task in VIEWS:
        if task == "cutswap" and saliency_weights is None:
            continue
        shown = dataclasses.replace(config, proxy_task=task, batch_size=0)
        marked = saliency.mark(sources, saliency_weights) if task == "cutswap" else sources
        views = pipeline.augmentations(marked, shown)
        columns |= {f"{task}\n{name}": pictures for name, pictures in views.items()}
    plots.save_sheet(output_dir / "proxy_tasks.png", columns)
    print(f"Sheet: {output_dir}/proxy_tasks.png")


def _with_canonical_names(config: Config, location: str | Path, test_location: str | Path) -> Config:
    """One spelling of folders; a name that stands for another place, as demo/gear does, stays as it is."""
    places = {"data": str(location), "test_data": str(test_location)}
    spelled = {name: datasets.canonical(place) for name, place in places.items() if getattr(config, name) == place}
    return dataclasses.replace(config, **spelled)


def _check_weights(config: Config) -> None:
    """Sees whether files of weights are there and fit."""
    if config.weights and config.is_efficientnet:
        if config.weights != "imagenet":
            weights.read_keras_weights(config.weights)
    elif config.weights:
        weights.read_resnet18(Path(config.weights).expanduser(), config.resolved_stem)
    if config.saliency_weights or config.proxy_task == "cutswap":
        weights.read_saliency_network(config)


def _list_train(
    config: Config, output_dir: Path, location: str | Path, tfds_data_dir: str, trained: Collection[str] | None
) -> list[images.Item]:
    """The training images; `trained` as in `folders.list_train`."""
    root = Path(location).expanduser()
    places = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
    if root.is_dir() and any(output_dir.resolve().is_relative_to(place.resolve()) for place in places):
        raise InputError(f"--output_dir={output_dir} lies among the images of {location}; name another folder.")
    return datasets.list_train(location, config.data_settings, trained=trained, tfds_data_dir=tfds_data_dir)


def _tell_of_folders(location: str | Path, items: list[images.Item], config: Config, examples: Examples) -> None:
    """Says which folders are learnt from, what is held out, and what is not read."""
    for line in (*folders.unread(Path(location).expanduser(), config.data_settings, testing=False), *examples.notices):
        print(f"Note: {line}")
    counts = collections.Counter(str(Path(item.path).parent) for item in items)
    if len(counts) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common(8))
        print(f"Note: all of these folders are learnt as normal: {listed}.")
    held_out = folders.held_out(Path(location).expanduser(), config.data_settings, examples.paths)
    if held_out:
        print(
            f"Note: {held_out} of {held_out + len(items)} images of {config.normal_name}/ are held out for testing "
            f"(--test_split={config.test_split:g})."
        )


def evaluate(
    run_dir: Path,
    data: str,
    location: str | Path,
    *,
    train_location: str | Path = "",
    settings: Mapping[str, Any] | None = None,
    synthetic_options: SyntheticOptions | None = None,
    heat_map_options: HeatMapOptions = HeatMapOptions(),  # noqa: B008  immutable
    output_dir: Path | None = None,
    allow_trained: bool = False,
    tfds_data_dir: str = "",
) -> None:
    """Scores test images with the run in `run_dir`.

    Args:
        run_dir: the folder of a complete run, or a detector copied from one.
        data: name of the test images, for the record.
        location: what `data` stands for.
        train_location: what the run's `config.data` stands for, if that is no folder; read only where a density has
            to be fitted to features that the run does not keep.
        settings: values for `config.EVALUATION_SETTINGS`, `READING_SETTINGS`, and `DENSE_SETTINGS` of a patch model,
            in place of the run's; the density is fitted anew where they decide it.
        synthetic_options: paste synthetic anomalies onto the normal test images and score those.
        heat_map_options: whether and how to localize.
        output_dir: to write to; by default a folder in `run_dir`, named after the settings, and after the data where
            they are not the run's own.
        allow_trained: whether test images may have the pixels of training images.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.

    Raises:
        InputError: before any long work.
    """
    surroundings.check()
    saved = Config.read(runs.find_detector(run_dir) / "config.json")
    settings = dict(settings or {})
    layer = heat_map_options.gradcam_layer
    _check_settings(saved, settings, heat_map_options)
    config = dataclasses.replace(saved, **settings)
    named = {name: value for name, value in settings.items() if name not in READING_SETTINGS}
    named |= {"gradcam_layer": layer} if layer else {}
    train_location = train_location or saved.data
    is_own = data == saved.data or datasets.is_same(location, train_location)
    if not is_own and _is_moved(location, run_dir, saved):
        is_own, train_location = True, location
    scorer = scoring.Scorer(
        run_dir,
        saved,
        config,
        train_location=train_location,
        tfds_data_dir=tfds_data_dir,
        allow_trained=allow_trained,
        report=_say,
    )
    items = datasets.list_test(
        location, config.data_settings, trained=scorer.data.images if is_own else (), tfds_data_dir=tfds_data_dir
    )
    if is_own and all(item.label == images.UNKNOWN for item in items):
        raise InputError(f"{data} holds the training images and no test images; name those by --data.")
    test_data = _test_data(run_dir, saved)
    is_own = is_own or (bool(test_data) and datasets.is_same(location, test_data))
    folder = output_dir or _eval_folder(run_dir, named, synthetic_options, "" if is_own else str(location))
    record, wanted = None, heat_map_options.wanted
    has_masks = synthetic_options is not None or any(item.masks for item in items)
    localizes = bool(config.patch_size or has_masks or layer) if wanted is None else wanted
    # Masks are read before any long work: one that does not fit its image is found here.
    reading = dataclasses.replace(config.data_settings, white=scorer.data.white)
    examples = images.read(items, config.image_size, reading) if localizes or synthetic_options else None
    if examples:
        scorer.refuse_trained(examples.paths, examples.hashes)
    with runs.locked(folder.parent, f".{hashlib.sha256(folder.name.encode()).hexdigest()[:16]}.lock"):
        if synthetic_options and examples:
            kind, fill = synthetic_options.shape, synthetic_options.fill
            data = f"{data} with synthetic anomalies ({kind}, {fill})"
            pictures = folder.with_name(f"{folder.name}_images")
            examples = _with_synthetic(examples, synthetic_options, pictures, tfds_data_dir)
            record = synthetic_options._asdict()
        print(f"Scoring {data}: {examples.note if examples else f'{len(items)} images'}.")
        _tell_of_tests(location, items, config, examples)
        is_without = not has_masks and any(item.label == images.ANOMALOUS for item in items)
        if wanted is None and is_without and not folders.has_masks(Path(location).expanduser()):
            print("There are no masks (ground_truth/DEFECT/NAME_mask.png): no heat maps and no pixel figures.")
        scored = scorer.score(items, examples, keep=not synthetic_options, heat_maps=localizes, gradcam_layer=layer)
        from cutpaste_tf import evaluation  # matplotlib is slow to load, too

        evaluation.evaluate(
            folder,
            data,
            config,
            scored=scored,
            train_images=len(scorer.data.images),
            examples=examples,
            gradcam_layer=layer,
            synthetic=record,
            location=str(location),
            report=_say,
        )


def _check_settings(saved: Config, settings: Mapping[str, Any], options: HeatMapOptions) -> None:
    """Refuses settings that the kind of model has not."""
    dense = [f"--{name}" for name in DENSE_SETTINGS if name in settings]
    if dense and not saved.patch_size:
        raise InputError(f"{', '.join(dense)}: only for patch models, trained with --patch_size=64.")
    layer = options.gradcam_layer
    whole = [f"--{name}" for name in ("kde_bandwidth", "mixture_components") if name in settings]
    if whole and saved.patch_size:
        raise InputError(f"{', '.join(whole)}: not for patch models, whose density is gaussian.")
    if layer and saved.patch_size:
        raise InputError("--gradcam_layer is for image models; a patch model's heat maps come from its patches.")
    if layer and options.wanted is False:
        raise InputError("--gradcam_layer is given, and --noheat_maps; leave one of them out.")


def _test_data(run_dir: Path, saved: Config) -> str:
    """The run's own test data, which can be named anew after its end: its folder knows better than its detector."""
    path = run_dir / "config.json"
    return Config.read(path).test_data if path.is_file() else saved.test_data


def _is_moved(location: str | Path, run_dir: Path, saved: Config) -> bool:
    """Whether a folder holds the training images of a run that was trained on them elsewhere."""
    root = Path(location).expanduser()
    data = runs.TrainingData.read(runs.find_detector(run_dir))
    try:
        items = folders.list_train(root, saved.data_settings, trained=data.images)
    except (InputError, OSError):  # other data, which need not be fit to learn from
        return False
    if {item.path for item in items} != set(data.images):
        return False
    reading = dataclasses.replace(saved.data_settings, white=data.white)
    try:
        return runs.TrainingData.of(images.read(items, saved.image_size, reading)).images == data.images
    except InputError:
        return False


def _eval_folder(run_dir: Path, named: Mapping[str, Any], options: SyntheticOptions | None, other_data: str) -> Path:
    """Where an evaluation goes: named after what was given anew."""
    name = runs.EVAL + "".join(f"_{key}={value}" for key, value in named.items())
    if options:
        name += f"_{options.shape}_{options.fill}" + (f"_{options.seed}" if options.seed else "")
    if other_data:
        place = datasets.canonical(other_data)
        name += "_data=" + re.sub(r"[^\w.-]+", "_", folders.printable(Path(place).name))[:40]
        path = run_dir / name / "metrics.json"
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("location") != place:
            name += "_" + hashlib.sha256(os.fsencode(place)).hexdigest()[:8]  # another folder of that name
    return run_dir / name


def _tell_of_tests(location: str | Path, items: list[images.Item], config: Config, examples: Examples | None) -> None:
    """Says what the user should know of test images: what is not read, and which masks look wrong."""
    root = Path(location).expanduser()
    lines = folders.unread(root, config.data_settings, testing=True)
    notices = examples.notices if examples else ()
    lines += notices[:5]
    lines += [f"{len(notices) - 5} more notes of this kind."] if len(notices) > 5 else []
    nested = sorted({Path(item.path).parts[0] for item in items if len(Path(item.path).parts) > 1})
    if nested and items[0].label == images.UNKNOWN:
        lines.append(
            f"Folders are no labels here ({', '.join(nested[:5])}), since none is called {config.normal_name}: give "
            "--normal_name if one of them holds normal images."
        )
    for line in lines:
        print(f"Note: {line}")


def _with_synthetic(examples: Examples, options: SyntheticOptions, folder: Path, tfds_data_dir: str) -> Examples:
    """Examples with synthetic anomalies, written to a folder as well."""
    natural, digits = [], np.empty(0)
    if options.fill == "image":
        natural, note = synthetic.read_natural(options.images)
        print(f"Filling from {note}.")
    if options.shape == "mnist":
        digits, note = synthetic.read_digits(prepared.data_dir(tfds_data_dir))
        print(f"Digits: {note}.")
    made = synthetic.make(examples, options.shape, options.fill, seed=options.seed, natural=natural, digits=digits)
    with runs.whole_folder(folder) as partial:
        synthetic.save(made, partial)
    print(f"Images with synthetic anomalies: {folder}/")
    return made


def _say(line: str) -> None:
    print(line, flush=True)
