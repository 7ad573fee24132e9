"""What the command lines do: check everything that can be checked in seconds, then load TensorFlow and work.

Kept apart from the mains so that a test, or another program, can call it. This module must not
import TensorFlow at its top: bad input is refused before the seconds that takes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import datasets, images, prepared, quiet_start, runs, scoring, synthetic, weights
from cutpaste_tf.config import DENSE_SETTINGS, VIEWS, Config
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
    runs.check(output_dir, config)
    if test_location:
        datasets.list_test(test_location, tfds_data_dir=tfds_data_dir)
    if config.head_epochs and not config.weights:
        print("Warning: without --weights the frozen backbone keeps its random weights.")
    examples = _read_train(config, output_dir, location, tfds_data_dir)
    if config.density == "mixture" and config.mixture_components > len(examples.images):
        raise InputError(f"--mixture_components={config.mixture_components} is more than the training images.")
    if (config.is_efficientnet or config.feature != "pool") and not runs.is_complete(output_dir):
        with quiet_start():
            from cutpaste_tf import training

        training.check(config)
    runs.open_run(output_dir, config, examples.digest)
    with runs.locked(output_dir):
        print(f"Training on {config.data}: {examples.note}.")
        if len(examples.images) < 20:
            print(f"Warning: {len(examples.images)} training images are few; expect a poor density.")
        if runs.is_complete(output_dir):
            print(f"The run in {output_dir} is complete already.")
        else:
            with quiet_start():
                from cutpaste_tf import training

            training.train(config, examples, output_dir, checkpoint_minutes=checkpoint_minutes, report=_say)
    print(f"Detector: {output_dir}/detector/   Next: python eval_main.py --run_dir={output_dir}")


def show_augmentations(config: Config, output_dir: Path, location: str | Path, *, tfds_data_dir: str = "") -> None:
    """Writes a sheet of every task's augmentations of a few training images; trains nothing.

    Arguments and errors as `train`. The sheet is OUTPUT_DIR/proxy_tasks.png.
    """
    saliency_weights = None
    if config.saliency_weights or (config.weights and not config.is_efficientnet):
        saliency_weights = weights.read_saliency_network(config)
    else:
        print("Without cutswap, whose saliency needs --saliency_weights.")
    examples = _read_train(config, output_dir, location, tfds_data_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    with quiet_start():
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


def _read_train(config: Config, output_dir: Path, location: str | Path, tfds_data_dir: str) -> Examples:
    """The training images, after every check that does not need them."""
    if config.weights and config.is_efficientnet:
        if config.weights != "imagenet":
            weights.read_keras_weights(config.weights)
    elif config.weights:
        weights.read_resnet18(Path(config.weights).expanduser(), config.resolved_stem)
    if config.saliency_weights or config.proxy_task == "cutswap":
        weights.read_saliency_network(config)
    root = Path(location).expanduser()
    places = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
    if root.is_dir() and any(output_dir.resolve().is_relative_to(place.resolve()) for place in places):
        raise InputError(f"--output_dir={output_dir} lies among the images of {location}; name another folder.")
    return datasets.read_train(location, config.image_size, tfds_data_dir=tfds_data_dir)


def evaluate(
    run_dir: Path,
    data: str,
    location: str | Path,
    *,
    train_location: str | Path = "",
    settings: Mapping[str, Any] | None = None,
    synthetic_options: SyntheticOptions | None = None,
    heat_map_options: HeatMapOptions = HeatMapOptions(),  # noqa: B008  immutable
    tfds_data_dir: str = "",
) -> None:
    """Scores test images with the run in `run_dir`.

    Args:
        run_dir: the folder of a complete run.
        data: name of the test images, for the record.
        location: what `data` stands for.
        train_location: what the run's `config.data` stands for, if that is no folder; read only where a density has
            to be fitted to features that the run does not keep.
        settings: values for `config.EVALUATION_SETTINGS`, and `config.DENSE_SETTINGS` of a patch model, in place of
            the run's; the density is fitted anew where they decide it.
        synthetic_options: paste synthetic anomalies onto the normal test images and score those.
        heat_map_options: whether and how to localize.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.

    Raises:
        InputError: before any long work.
    """
    saved = Config.read(run_dir / "config.json")
    if not runs.is_complete(run_dir):
        raise InputError(f"The run in {run_dir} is not complete; run its train_main.py command again to finish it.")
    settings = dict(settings or {})
    dense = [f"--{name}" for name in DENSE_SETTINGS if name in settings]
    if dense and not saved.patch_size:
        raise InputError(f"{', '.join(dense)}: only for patch models, trained with --patch_size=64.")
    layer = heat_map_options.gradcam_layer
    whole = [f"--{name}" for name in ("kde_bandwidth", "mixture_components") if name in settings]
    if whole and saved.patch_size:
        raise InputError(f"{', '.join(whole)}: not for patch models, whose density is gaussian.")
    if layer and saved.patch_size:
        raise InputError("--gradcam_layer is for image models; a patch model's heat maps come from its patches.")
    if layer and heat_map_options.wanted is False:
        raise InputError("--gradcam_layer is given, and --noheat_maps; leave one of them out.")
    config = dataclasses.replace(saved, **settings)
    named = {**settings, **({"gradcam_layer": layer} if layer else {})}
    folder = runs.EVAL + "".join(f"_{name}={value}" for name, value in named.items())
    items = datasets.list_test(location, tfds_data_dir=tfds_data_dir)
    if data == saved.data and all(item.label == images.UNKNOWN for item in items):
        raise InputError(f"{data} holds the training images and no test images; name those by --data.")
    record, wanted = None, heat_map_options.wanted
    has_masks = synthetic_options is not None or any(item.mask for item in items)
    localizes = bool(config.patch_size or has_masks or layer) if wanted is None else wanted
    # Masks are read before any long work: one that does not fit its image is found here.
    examples = images.read(items, config.image_size) if localizes or synthetic_options else None
    if synthetic_options and examples:
        kind, fill = synthetic_options.shape, synthetic_options.fill
        folder += f"_{kind}_{fill}" + (f"_{synthetic_options.seed}" if synthetic_options.seed else "")
        data = f"{data} with synthetic anomalies ({kind}, {fill})"
        examples = _with_synthetic(examples, synthetic_options, run_dir / f"{folder}_images", tfds_data_dir)
        record = synthetic_options._asdict()
    print(f"Scoring {data}: {examples.note if examples else f'{len(items)} images'}.")
    if not localizes and wanted is None and any(item.label == images.ANOMALOUS for item in items):
        print("There are no masks (ground_truth/DEFECT/NAME_mask.png): no heat maps and no pixel figures.")
    scorer = scoring.Scorer(run_dir, saved, config, train_location, tfds_data_dir, _say)
    scored = scorer.score(items, examples, keep=not synthetic_options, heat_maps=localizes, gradcam_layer=layer)
    from cutpaste_tf import evaluation  # matplotlib is slow to load, too

    evaluation.evaluate(
        run_dir / folder,
        data,
        config,
        scored=scored,
        examples=examples,
        gradcam_layer=layer,
        synthetic=record,
        report=_say,
    )


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
