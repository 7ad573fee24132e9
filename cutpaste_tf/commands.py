"""What the command lines do: check everything that can be checked in seconds, then load TensorFlow and work.

Kept apart from the mains so that a test, or another program, can call it. This module must not
import TensorFlow at its top: bad input is refused before the seconds that takes.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import app, flags

from cutpaste_tf import datasets, runs, weights
from cutpaste_tf.config import CHOICES, Config
from cutpaste_tf.errors import InputError

_DEFINE: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    tuple: flags.DEFINE_list,
}


def train(config: Config, output_dir: Path, data_dir: Path, *, checkpoint_minutes: float) -> None:
    """Trains a run, or resumes it, or finds it complete.

    Args:
        config: the configuration.
        output_dir: the run's folder.
        data_dir: the category folder that `config.data` names.
        checkpoint_minutes: time between checkpoints.

    Raises:
        InputError: before any long work.
    """
    if config.weights:
        weights.read_resnet18(Path(config.weights).expanduser(), config.resolved_stem)
    for split in ("train", "test"):
        if output_dir.resolve().is_relative_to((data_dir / split).resolve()):
            raise InputError(f"--output_dir={output_dir} lies among the images of {data_dir}; name another folder.")
    examples = datasets.read_train(data_dir, config.image_size)
    runs.open_run(output_dir, config, examples.digest)
    with runs.locked(output_dir):
        _train(config, examples, output_dir, checkpoint_minutes)
    print(f"Detector: {output_dir}/detector/   Next: python eval_main.py --run_dir={output_dir}")


def _train(config: Config, examples: datasets.Examples, output_dir: Path, checkpoint_minutes: float) -> None:
    print(f"Training on {config.data}: {examples.note}.")
    if len(examples.images) < 20:
        print(f"Warning: {len(examples.images)} training images are few; expect a poor density.")
    if runs.is_complete(output_dir):
        print(f"The run in {output_dir} is complete already.")
    else:
        with _quiet_start():
            from cutpaste_tf import training

        training.train(config, examples, output_dir, checkpoint_minutes=checkpoint_minutes, report=_say)


def evaluate(run_dir: Path, data: str, data_dir: Path) -> None:
    """Scores the test images of `data_dir`, which `data` names, with the run in `run_dir`.

    Raises:
        InputError: before any long work.
    """
    config = Config.read(run_dir / "config.json")
    if not runs.is_complete(run_dir):
        raise InputError(f"The run in {run_dir} is not complete; run its train_main.py command again to finish it.")
    examples = datasets.read_test(data_dir, config.image_size)
    print(f"Scoring {data}: {examples.note}.")
    with _quiet_start():
        from cutpaste_tf import evaluation

    evaluation.evaluate(run_dir, data, examples, report=_say)


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


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hides what TensorFlow's C++ prints on import, before any log level holds; exceptions show as ever."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _say(line: str) -> None:
    print(line, flush=True)


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
