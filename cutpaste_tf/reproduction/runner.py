"""Executes a run of a plan: training and evaluations, each in a separate process, retried on failure.

If a process was interrupted, the next one resumes its work.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple, Self

from cutpaste_tf import partials, runs
from cutpaste_tf.progress import say
from cutpaste_tf.reproduction.plan import Request, Work

LOG = "log.txt"  # output of a run's processes
_PAUSE = 0.2  # seconds between polls of a process
GRACE = 30.0  # seconds that a terminated process has to save a checkpoint before it is killed


class Commands(NamedTuple):
    """How to start the commands.

    Attributes:
        train: the words that start train_main.py.
        evaluate: the words that start eval_main.py.
    """

    train: tuple[str, ...]
    evaluate: tuple[str, ...]


class Job(NamedTuple):
    """What all runs of a plan have in common.

    Attributes:
        request: the request the plan is for.
        commands: how to start the commands.
        tries: attempts at a run before it is given up.
    """

    request: Request
    commands: Commands
    tries: int


class Share(NamedTuple):
    """What a run's processes may use of the machine.

    Attributes:
        environment: additional environment variables.
        cores: indices of processor cores, if the system supports affinity; empty: all cores.
    """

    environment: Mapping[str, str] = MappingProxyType({})
    cores: tuple[int, ...] = ()


class Outcome(NamedTuple):
    """The outcome of a run.

    Attributes:
        work: the run and its evaluations.
        failure: the last line of the process that failed; empty if the run is done.
        seconds: how long it took.
    """

    work: Work
    failure: str
    seconds: float = 0.0


class StoppedError(Exception):
    """The processes were stopped."""


class Processes:
    """Processes; if the block ends with an error, all of them are terminated and no new ones are started.

    They have their own process groups, so Ctrl-C reaches only us: no process seems to fail before we know why, and we
    terminate them. Those still running after GRACE, or at a second Ctrl-C, are killed.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        with self._lock:
            self._stopped = True
            running = [*self._running]
            for process in running:
                process.terminate()
        deadline = time.monotonic() + GRACE
        try:
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in running:
                process.kill()  # does nothing if the process has ended

    @contextlib.contextmanager
    def log(self, place: Path) -> Iterator[BinaryIO]:
        """Opens a run's log, to which its processes write; they hold its lock as long as they live.

        A process may outlive a coordinator that was killed: waits until it has ended.

        Args:
            place: folder of the run; created if missing.

        Raises:
            StoppedError: `__exit__` was called meanwhile.
        """
        place.mkdir(parents=True, exist_ok=True)
        with (place / LOG).open("a+b") as log:
            if not partials.lock(log.fileno()):
                say(f"Waiting for the process that an earlier command left running in {place}.")
                while not partials.lock(log.fileno()):
                    if self._stopped:
                        raise StoppedError
                    time.sleep(_PAUSE)
            yield log

    def run(self, words: Sequence[str], log: BinaryIO, share: Share) -> str:
        """Runs a command and appends its output to the run's log.

        Args:
            words: the words of the command.
            log: from `log`.
            share: what it may use.

        Returns:
            Its last line if it failed, otherwise an empty string.

        Raises:
            StoppedError: it was ended by `__exit__`.
        """
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
                with contextlib.suppress(OSError):  # it has exited, or its container has different cores
                    os.sched_setaffinity(process.pid, share.cores)
            self._running.add(process)
        while (code := process.poll()) is None:
            time.sleep(_PAUSE)  # a blocking system call would not notice Ray's `cancel`
        with self._lock:
            self._running.discard(process)
        if self._stopped:
            raise StoppedError
        if code == 0:
            return ""
        log.seek(start)
        lines = log.read().decode(errors="backslashreplace").strip().splitlines()
        return lines[-1] if lines else f"ended with code {code}"


def attend(task: Work, job: Job, share: Share, processes: Processes) -> Outcome:
    """Executes the missing parts of a run, with retries.

    Args:
        task: the run and its evaluations.
        job: the plan's job.
        share: what its processes may use.
        processes: starts the processes.

    Raises:
        StoppedError: the processes were stopped.
    """
    began, failure = time.monotonic(), ""
    for _ in range(job.tries):
        try:
            failure = _attempt(task, job, share, processes)
        except OSError as error:  # such as a full disk; the other runs continue
            failure = str(error)
        if not failure:
            break
    return Outcome(task, failure, time.monotonic() - began)


def _attempt(task: Work, job: Job, share: Share, processes: Processes) -> str:
    """Trains and evaluates what is missing; returns the last line of a failed process."""
    request, place = job.request, job.request.output_dir / "runs" / task.run.name
    shared = [f"--tfds_data_dir={request.tfds_data_dir}"] if request.tfds_data_dir else []
    with processes.log(place) as log:
        if not runs.is_complete(place):
            words = [*job.commands.train, *task.run.flags(request.data_root), f"--output_dir={place}", *shared]
            if failure := processes.run(words, log, share):
                return failure
        for folder in task.missing(request.output_dir):
            data = f"--data={task.run.data(request.data_root)}"  # it may have moved since training
            words = [*job.commands.evaluate, f"--run_dir={place}", data, f"--output_dir={place / folder}", "--nopage"]
            words += shared
            if failure := processes.run([*words, *task.evaluations[folder]], log, share):
                return failure
    return ""
