"""What the command lines do: check everything that can be checked in seconds, then load TensorFlow and work.

Kept apart from the mains so that a test, or another program, can call it. This module must not
import TensorFlow at its top: bad input is refused before the seconds that takes.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from cutpaste_tf import datasets, prepared, quiet_start, runs, synthetic, weights
from cutpaste_tf.config import CHOICES, VIEWS, Config
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples

_SHEET_ROWS = 5
TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir", "", "Where TensorFlow Datasets keeps sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."
)

_DEFINE: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    tuple: flags.DEFINE_list,
}


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


def train(
    config: Config, output_dir: Path, location: str | Path, *, checkpoint_minutes: float, tfds_data_dir: str = ""
) -> None:
    """Trains a run, or resumes it, or finds it complete.

    Args:
        config: the configuration.
        output_dir: the run's folder.
        location: what `config.data` stands for: a folder, or the name of a prepared set.
        checkpoint_minutes: time between checkpoints.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.

    Raises:
        InputError: before any long work.
    """
    examples = _read_train(config, output_dir, location, tfds_data_dir)
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
    examples = _read_train(config, output_dir, location, tfds_data_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    with quiet_start():
        from cutpaste_tf import pipeline, plots, saliency

    rows = np.linspace(0, len(examples.images) - 1, min(_SHEET_ROWS, len(examples.images))).astype(int)
    images = np.array(examples.images[rows])
    columns = {"source": images.astype(np.float32) / 255}
    for task in VIEWS:
        if task == "cutswap" and not (config.saliency_weights or config.weights):
            print("Without cutswap, whose saliency needs --saliency_weights.")
            continue
        shown = dataclasses.replace(config, proxy_task=task, batch_size=0)
        marked = saliency.mark(images, weights.read_saliency_network(shown)) if task == "cutswap" else images
        views = pipeline.augmentations(marked, shown)
        columns |= {f"{task}\n{name}": pictures for name, pictures in views.items()}
    plots.save_sheet(output_dir / "proxy_tasks.png", columns)
    print(f"Sheet: {output_dir}/proxy_tasks.png")


def _read_train(config: Config, output_dir: Path, location: str | Path, tfds_data_dir: str) -> Examples:
    """The training images, after every check that does not need them."""
    if config.weights:
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
    synthetic_options: SyntheticOptions | None = None,
    tfds_data_dir: str = "",
) -> None:
    """Scores test images with the run in `run_dir`.

    Args:
        run_dir: the folder of a complete run.
        data: name of the test images, for the record.
        location: what `data` stands for.
        synthetic_options: paste synthetic anomalies onto the normal test images and score those.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.

    Raises:
        InputError: before any long work.
    """
    config = Config.read(run_dir / "config.json")
    if not runs.is_complete(run_dir):
        raise InputError(f"The run in {run_dir} is not complete; run its train_main.py command again to finish it.")
    examples = datasets.read_test(location, config.image_size, tfds_data_dir=tfds_data_dir)
    into = runs.EVAL
    if synthetic_options:
        kind, fill = synthetic_options.shape, synthetic_options.fill
        into = f"{runs.EVAL}_{kind}_{fill}"
        examples = _with_synthetic(examples, synthetic_options, run_dir / f"{into}_images", tfds_data_dir)
        data = f"{data} with synthetic anomalies ({kind}, {fill})"
    print(f"Scoring {data}: {examples.note}.")
    with quiet_start():
        from cutpaste_tf import evaluation

    evaluation.evaluate(run_dir, data, examples, report=_say, into=into)


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


def define_config_flags() -> None:
    """Defines a flag for every field of `Config`, with its default and help text."""
    for field in dataclasses.fields(Config):
        text = field.metadata["help"]
        if field.name in CHOICES:
            text += f" One of: {', '.join(CHOICES[field.name])}."
        default: Any = field.default
        kind = type(default)
        _DEFINE[kind](field.name, [str(v) for v in default] if kind is tuple else default, text)


def config_from_flags() -> Config:
    """The configuration that the flags give.

    Raises:
        InputError: a value is not allowed.
    """
    values: dict[str, Any] = {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Config)}
    try:
        values["head_dims"] = tuple(int(width) for width in values["head_dims"])
    except ValueError:
        raise InputError(f"--head_dims={','.join(values['head_dims'])} must be whole numbers, as in 512,128.") from None
    return Config(**values)


def run_main(main: Callable[[], None]) -> None:
    """Parses the flags and runs a main; what the user can mend is one line on stderr and exit code 2."""

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            _fail(f"{error}. See --helpshort.")
        if len(rest) > 1:
            _fail(f"Stray arguments: {' '.join(rest[1:])}. Flags are written --name=value.")
        return rest

    def guarded(_: list[str]) -> None:
        try:
            main()
        except InputError as error:
            _fail(str(error))
        except OSError as error:  # no permission, disk full, ...
            _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")
        except KeyboardInterrupt:
            print("Stopped. The same command goes on from the last checkpoint.", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, flags_parser=parse)


def required(flag: flags.FlagHolder[str | None]) -> str:
    """The value of a flag that must be given.

    Raises:
        InputError: it is missing.
    """
    if not flag.value:
        raise InputError(f"--{flag.name} is missing.")
    return flag.value


def _say(line: str) -> None:
    print(line, flush=True)


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
