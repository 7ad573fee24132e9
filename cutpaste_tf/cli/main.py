"""Runs a main, reports bad input in one line and shows help by group. Does not load TensorFlow."""

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from absl import app, flags, logging

import cutpaste_tf
from cutpaste_tf import memory, progress
from cutpaste_tf.cli.flags import help_text
from cutpaste_tf.errors import InputError, SignalError

TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir",
    "",
    "Folder where TensorFlow Datasets keeps its data sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)
QUIET = flags.DEFINE_bool("quiet", False, "Show only warnings and errors.")
_HELP = {"--help", "-help", "-h", "-?", "--helpshort", "--helpfull"}


def run_main(main: Callable[[], None], about: str | None = None) -> None:
    """Parses the flags and runs a main; an error the user can fix becomes one line on stderr and exit code 2.

    A signal becomes one line too, with the exit code that shells use: 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        main: the function to run.
        about: what it does, for --help.
    """

    def parse(argv: list[str]) -> list[str]:
        if _HELP & set(argv[1:]):
            print(progress.as_started(help_text(about or "")), end="")
            sys.exit(0)
        if "--version" in argv[1:]:
            print(f"cutpaste_tf {cutpaste_tf.__version__}")
            sys.exit(0)
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            _fail(f"{error}. See --help.")
        if flags.FLAGS["verbosity"].using_default_value:
            flags.FLAGS.verbosity = logging.WARNING  # app.run would make libraries verbose
        for name in flags.FLAGS:
            value = flags.FLAGS[name].value
            if isinstance(value, str) and value.startswith("--"):  # absl takes the next word
                _fail(f"--{name} has no value: {value} follows it. Write --{name}=VALUE.")
        if len(rest) > 1:
            _fail(f"Stray arguments: {' '.join(rest[1:])}. Write flags as --name=value.")
        return rest

    for stream in (sys.stdout, sys.stderr):  # a file name may contain characters the terminal's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def guarded(_: list[str]) -> None:
        try:
            memory.on_abort(lambda: f"error: {_out_of_memory(MemoryError('native code ended the process'))}")
            with progress.quietly() if QUIET.value else contextlib.nullcontext(), _raising_on_sigterm():
                main()
        except InputError as error:
            _fail(str(error))
        except OSError as error:  # no permission, disk full, ...
            _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
            _fail(_out_of_memory(error))
        except KeyboardInterrupt as error:
            print(str(error) or "Stopped.", file=sys.stderr, flush=True)
            sys.exit(128 + (error.number if isinstance(error, SignalError) else signal.SIGINT))

    app.run(guarded, flags_parser=parse)


def folders_of(named: str) -> list[Path]:
    """The folders in a flag, separated by commas; a single folder's name may itself contain commas."""
    names = [named] if Path(named).expanduser().is_dir() else named.split(",")
    return [Path(name).expanduser() for name in names if name]


@contextlib.contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """Turns SIGTERM, which would end the process silently, into an error; a second SIGTERM ends the process."""

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SignalError(number)

    before = signal.getsignal(signal.SIGTERM)
    if before != signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def required(flag: flags.FlagHolder[str | None]) -> str:
    """The value of a required flag.

    Raises:
        InputError: it is missing.
    """
    if not flag.value:
        raise InputError(f"--{flag.name} is missing.")
    return flag.value


def _out_of_memory(error: Exception) -> str:
    """What ran out of memory, and what helps."""
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    during = f" after: {progress.last_line()}" if progress.last_line() else ""
    return f"Out of memory ({reason[:200]}){during} Free some, or lower --batch_size or --image_size."


def _fail(message: str) -> NoReturn:
    with contextlib.suppress(OSError):  # standard error may be a file on a full disk
        print(f"error: {progress.as_started(' '.join(message.split()))}", file=sys.stderr, flush=True)
    sys.exit(2)
