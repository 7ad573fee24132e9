"""Flags -> configuration, and a main that tells bad input in one line. Imports no TensorFlow."""

import dataclasses
import io
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags

from cutpaste_tf.config import CHOICES, DENSE_SETTINGS, EVALUATION_SETTINGS, READING_SETTINGS, Config
from cutpaste_tf.errors import InputError

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
    for name, example in (("head_dims", "512,128"), ("background", "255,255,255")):
        try:
            values[name] = tuple(int(value) for value in values[name])
        except ValueError:
            given = ",".join(values[name])
            raise InputError(f"--{name}={given} must be whole numbers, as in {example}.") from None
    return Config(**values)


def define_evaluation_flags() -> None:
    """Defines a flag, without default, for every setting that an evaluation can change."""
    for field in dataclasses.fields(Config):
        if field.name in READING_SETTINGS + EVALUATION_SETTINGS + DENSE_SETTINGS:
            text = field.metadata["help"] + " By default as in training."
            if field.name in CHOICES:
                text += f" One of: {', '.join(CHOICES[field.name])}."
            _DEFINE[type(field.default)](field.name, None, text)


def settings_from_flags() -> dict[str, Any]:
    """The settings that the flags of `define_evaluation_flags` give anew."""
    names = READING_SETTINGS + EVALUATION_SETTINGS + DENSE_SETTINGS
    values = {name: flags.FLAGS[name].value for name in names}
    return {name: value for name, value in values.items() if value is not None}


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

    for stream in (sys.stdout, sys.stderr):  # a file name may hold what the terminal's encoding has not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def guarded(_: list[str]) -> None:
        try:
            main()
        except InputError as error:
            _fail(str(error))
        except OSError as error:  # no permission, disk full, ...
            _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")
        except KeyboardInterrupt:
            print("Stopped. A training goes on from its last checkpoint by the same command.", file=sys.stderr)
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


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
