"""A main that tells bad input in one line, and helps by groups. Loads no TensorFlow."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from cutpaste_tf import processes, progress
from cutpaste_tf.cli.flags import help_text
from cutpaste_tf.errors import InputError

TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir", "", "Where TensorFlow Datasets keeps sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."
)
QUIET = flags.DEFINE_bool("quiet", False, "Show warnings and errors only.")
_HELP = {"--help", "-help", "-h", "-?", "--helpshort", "--helpfull"}


def run_main(main: Callable[[], None], about: str | None = None) -> None:
    """Parses the flags and runs a main; what the user can mend is one line on stderr and exit code 2.

    Args:
        main: to run.
        about: what it does, for --help.
    """

    def parse(argv: list[str]) -> list[str]:
        if _HELP & set(argv[1:]):
            print(progress.as_started(help_text(about or "")), end="")
            sys.exit(0)
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            _fail(f"{error}. See --help.")
        if flags.FLAGS["verbosity"].using_default_value:
            flags.FLAGS.verbosity = logging.WARNING  # app.run would have libraries tell what they do
        if len(rest) > 1:
            _fail(f"Stray arguments: {' '.join(rest[1:])}. Flags are written --name=value.")
        return rest

    for stream in (sys.stdout, sys.stderr):  # a file name may hold what the terminal's encoding has not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def guarded(_: list[str]) -> None:
        try:
            with progress.quietly() if QUIET.value else contextlib.nullcontext():
                main()
        except InputError as error:
            _fail(str(error))
        except OSError as error:  # no permission, disk full, ...
            _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")
        except Exception as error:
            if not processes.is_loss(error):
                raise
            _fail("Another process of this command has ended. The same commands again go on from the last checkpoint.")
        except KeyboardInterrupt:
            print(
                "Stopped. What was written stands; a training goes on from its last checkpoint by the same command.",
                file=sys.stderr,
            )
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


def _fail(message: str) -> NoReturn:
    print(f"error: {progress.as_started(' '.join(message.split()))}", file=sys.stderr, flush=True)
    if processes.have_joined():  # at a normal exit it would wait for the others, and they for it
        os._exit(2)
    sys.exit(2)
