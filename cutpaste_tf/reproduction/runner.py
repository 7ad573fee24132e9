"""One run of a plan: its training and its evaluations, each in a process of its own, tried again where one fails.

Whoever carries it out - a thread, a job of Slurm, a worker of Ray - holds the run's claim, a lock that goes with its
process, so that no run is done twice; a process that was cut off is resumed by the next.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Self

from cutpaste_tf import files, runs
from cutpaste_tf.reproduction.plan import CLAIMS, Request, Work

LOG = "log.txt"  # of a run: what its processes said


class Commands(NamedTuple):
    """How the commands are started.

    Attributes:
        train: words of train_main.py.
        evaluate: words of eval_main.py.
        reproduce: words of reproduce_main.py.
    """

    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    reproduce: tuple[str, ...] = ()


class Job(NamedTuple):
    """What all runs of a plan have in common.

    Attributes:
        request: that the plan is of.
        commands: to start.
        tries: of a run before it is given up.
    """

    request: Request
    commands: Commands
    tries: int


class Share(NamedTuple):
    """What a run's processes may use of the machine.

    Attributes:
        environment: variables beside ours.
        cores: numbers of the processor's, where the system can hold a process to them; none: all.
    """

    environment: Mapping[str, str] = MappingProxyType({})
    cores: tuple[int, ...] = ()


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        work: that was attended to.
        state: `busy`: somebody else is at work on it. `stopped`: by the user.
        said: the last line of the process that failed.
        seconds: that it took.
    """

    work: Work
    state: Literal["done", "failed", "busy", "stopped"]
    said: str = ""
    seconds: float = 0.0


class StoppedError(Exception):
    """The user has stopped the processes."""


class Processes:
    """Processes that all end, and are not followed by others, when the block that they belong to ends with an error.

    Ctrl-C reaches us alone, so that none looks as if it had failed before we know of it; and they are terminated, since
    what a shell starts in the background does not hear of it, nor do its children.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with self._lock:
                self._stopped = True
                for process in self._running:
                    process.terminate()

    def run(self, words: Sequence[str], place: Path, share: Share) -> str:
        """Runs a command, and adds what it says to the run's log.

        Args:
            words: of the command.
            place: folder of the run.
            share: what it may use.

        Returns:
            Its last line where it failed, else nothing.

        Raises:
            StoppedError: by the user.
        """
        place.mkdir(parents=True, exist_ok=True)
        with (place / LOG).open("ab") as log:
            log.write(f"$ {' '.join(words)}\n".encode(errors="backslashreplace"))
            log.flush()
            start = log.tell()
            with self._lock:
                if self._stopped:
                    raise StoppedError
                process = subprocess.Popen(
                    words,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **share.environment},
                    process_group=0 if os.name == "posix" else None,
                )
                if share.cores and hasattr(os, "sched_setaffinity"):
                    with contextlib.suppress(OSError):  # it has ended, or its container has other cores
                        os.sched_setaffinity(process.pid, share.cores)
                self._running.add(process)
            try:
                code = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
        if self._stopped:
            raise StoppedError
        if code == 0:
            return ""
        with (place / LOG).open("rb") as log:
            log.seek(start)
            said = log.read().decode(errors="backslashreplace").strip().splitlines()
        return said[-1] if said else f"ended with code {code}"


def attend(one: Work, job: Job, share: Share, processes: Processes, given_up_before: str = "") -> Outcome:
    """Does what is not done of a run, if nobody else does.

    Args:
        one: the run and its evaluations.
        job: of the plan.
        share: what its processes may use.
        processes: to start them.
        given_up_before: what `Work.given_up` said when the command began: what others have given up since is not tried
            again.

    Raises:
        InputError: the folder cannot be written.
    """
    root, began = job.request.output_dir, time.monotonic()
    try:
        with files.locked(root / CLAIMS, one.claim):
            if one.is_done(root):
                return Outcome(one, "done")
            if (mark := one.given_up(root)) and mark != given_up_before:
                return Outcome(one, "failed", mark.partition(" ")[2])
            place = root / "runs" / one.run.name
            said = ""
            for _ in range(job.tries):
                said = _attempt(one, job, place, share, processes)
                if not said:
                    return Outcome(one, "done", "", time.monotonic() - began)
                if files.AT_WORK in said:
                    return Outcome(one, "busy")
            one.give_up(root, said)
            return Outcome(one, "failed", said)
    except files.LockedError:
        return Outcome(one, "busy")
    except StoppedError:
        return Outcome(one, "stopped")


def _attempt(one: Work, job: Job, place: Path, share: Share, processes: Processes) -> str:
    """Trains and evaluates what is missing; the last line of what failed.

    Raises:
        LockedError: a process of a coordinator that died is still at work on the run.
    """
    with files.locked(place):  # seen here, rather than by a process that reads all images first
        pass
    request = job.request
    shared = [f"--tfds_data_dir={request.tfds_data_dir}"] if request.tfds_data_dir else []
    if not runs.is_complete(place):
        words = [*job.commands.train, *one.run.flags(request.data_root), f"--output_dir={place}", *shared]
        if said := processes.run(words, place, share):
            return said
    for folder in one.missing(request.output_dir):
        data = f"--data={one.run.data(request.data_root)}"  # it may lie elsewhere than for whoever trained
        words = [*job.commands.evaluate, f"--run_dir={place}", data, f"--output_dir={place / folder}", "--nopage"]
        words += shared
        if said := processes.run([*words, *one.evaluations[folder]], place, share):
            return said
    return ""
