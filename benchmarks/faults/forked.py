"""Commands in forked processes: as from a shell, but without the seconds of importing TensorFlow.

The parent must have imported what commands need, and must not have computed anything: TensorFlow's threads would not
survive the fork.
"""

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

COMMANDS = {
    "train": "cutpaste_tf.cli.train",
    "eval": "cutpaste_tf.cli.evaluate",
    "predict": "cutpaste_tf.cli.predict",
    "export": "cutpaste_tf.cli.export",
    "serve": "cutpaste_tf.cli.serve",
    "reproduce": "cutpaste_tf.cli.reproduce",
}


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: exit code; negative for the signal that ended it; None if it was killed at the limit.
        out, err: what it printed.
        seconds: how long it ran.
    """

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def is_refusal(self) -> bool:
        """Whether it ended with exit code 2 and one line that begins with `error:`, after warnings and notes if any."""
        lines = self.err.splitlines()
        return self.code == 2 and "Traceback" not in self.err and sum(line.startswith("error: ") for line in lines) == 1

    @property
    def last_line(self) -> str:
        """The last line it printed as an error, or otherwise, for a list of failures."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return f"code {self.code}: {lines[-1][:300] if lines else 'no output'}"


class Running:
    """A command that runs in a forked process.

    Args:
        words: `train`, `eval`, ..., and its flags; or a function to call.
        place: folder for its output; its HOME, TMPDIR and working folder are inside.
        before: called in the new process first, for example to set a limit.
    """

    def __init__(
        self, words: Sequence[str] | Callable[[], None], place: Path, before: Callable[[], None] | None = None
    ):
        self._out, self._err = place / ".out", place / ".err"
        self._began = time.monotonic()
        self.seconds = 0.0
        self.code: int | None = None
        self._is_ended = False
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._run(words, place, before)

    def _run(
        self, words: Sequence[str] | Callable[[], None], place: Path, before: Callable[[], None] | None
    ) -> NoReturn:
        code = 70
        try:
            os.setpgid(0, 0)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with its parent
            for descriptor, path in ((1, self._out), (2, self._err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
            for name, folder in {"HOME": "home", "TMPDIR": "tmp", "": "cwd"}.items():
                (place / folder).mkdir(exist_ok=True)
                os.environ[name or "PWD"] = str(place / folder)
            os.chdir(place / "cwd")
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            if before:
                before()
            if callable(words):
                words()
            else:
                sys.argv = [f"{words[0]}_main.py", *words[1:]]
                importlib.import_module(COMMANDS[words[0]]).run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        except BaseException:
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
            code = 1
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def is_running(self) -> bool:
        """Whether it still runs."""
        if not self._is_ended:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._is_ended, self.code = True, os.waitstatus_to_exitcode(status)
                self.seconds = time.monotonic() - self._began
        return not self._is_ended

    def wait(self, limit: float) -> Ended:
        """Waits until it has ended; kills it at the limit, in seconds since it began."""
        while self.is_running():
            if self.age > limit:
                self.send(signal.SIGKILL)
                while self.is_running():
                    time.sleep(0.01)
                return self._ended(None)
            time.sleep(0.01)
        return self._ended(self.code)

    def send(self, number: int) -> None:
        """Sends a signal to it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _ended(self, code: int | None) -> Ended:
        out, err = (path.read_text(errors="replace") if path.exists() else "" for path in (self._out, self._err))
        return Ended(code, out, err, self.seconds)


def run(
    words: Sequence[str] | Callable[[], None],
    place: Path,
    *,
    limit: float = 120,
    before: Callable[[], None] | None = None,
) -> Ended:
    """Runs a command to its end, see `Running`."""
    place.mkdir(parents=True, exist_ok=True)
    return Running(words, place, before).wait(limit)


def together(trials: Iterator[tuple[Running, float, Callable[[Ended], None]]], jobs: int) -> None:
    """Runs (command, limit in seconds, what to do with its end), `jobs` at a time; each begins when it is drawn."""
    running: list[tuple[Running, float, Callable[[Ended], None]]] = []
    exhausted = False
    while running or not exhausted:
        while not exhausted and len(running) < jobs:
            try:
                running.append(next(trials))
            except StopIteration:
                exhausted = True
        for entry in list(running):
            command, limit, then = entry
            if not command.is_running() or command.age > limit:
                running.remove(entry)
                then(command.wait(limit))
        time.sleep(0.005)


def memory_limit(size: int) -> Callable[[], None]:
    """What sets a limit on a process's address space, in bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))
