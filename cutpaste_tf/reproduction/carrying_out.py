"""Carries out the work of a plan: each run and each evaluation in a process of its own, several at a time.

Several coordinators, on machines that share the folder, divide the runs by locks, which go with their process. A run
that was cut off is resumed by the same command.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cutpaste_tf import files, progress, runs
from cutpaste_tf.progress import Report
from cutpaste_tf.reproduction import live
from cutpaste_tf.reproduction.plan import CLAIMS, Request, Work

LOG = "log.txt"  # of a run: what its processes said
_PAUSE = 5.0  # seconds between looks at runs that others have claimed


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


class Failure(NamedTuple):
    """A run that was given up.

    Attributes:
        name: of the run.
        reason: the last line that it said.
    """

    name: str
    reason: str


class Busy(Exception):  # noqa: N818  no error
    """Somebody else is at work on a run."""


def carry_out(
    work: Sequence[Work],
    request: Request,
    commands: Commands,
    *,
    jobs: int,
    tries: int,
    report: Report,
    write_tables: Callable[[], None] = lambda: None,
) -> list[Failure]:
    """Does what is not done.

    Args:
        work: of `plan`.
        request: that it is of.
        commands: to start.
        jobs: processes at a time, which share the cores; on a machine with GPUs each has one.
        tries: of a run before it is given up.
        report: takes a line for the user.
        write_tables: is called now and then, and at the end.

    Returns:
        The runs that were given up.
    """
    root, gpus = request.output_dir, _gpus()
    stopping = threading.Event()
    todo = [one for one in work if not one.is_done(root)]
    failures: list[Failure] = []
    slots, lock = list(range(jobs)), threading.Lock()
    report(f"{len(work) - len(todo)} of {len(work)} runs are done; {jobs} at a time.")

    def attend(one: Work) -> Work | None:
        with lock:
            slot = slots.pop(0)
        try:
            with files.locked(root / CLAIMS, one.claim):
                if not one.is_done(root):
                    _attempt(one, request, commands, _environment(slot, jobs, gpus), tries, failures, stopping, report)
        except (Busy, files.LockedError):
            return one  # somebody else's; looked at again later
        finally:
            with lock:
                slots.insert(0, slot)
        return None

    with _shown(work, request, failures, write_tables):
        while todo:
            with ThreadPoolExecutor(jobs) as pool, _stopped_by_the_user(stopping):
                done = progress.track(pool.map(attend, todo), len(todo), "Runs", report)
                left = [one for one in done if one is not None]
            if len(left) == len(todo):
                time.sleep(_PAUSE)
            todo = [one for one in left if not one.is_done(root)]
    return failures


@contextlib.contextmanager
def _stopped_by_the_user(stopping: threading.Event) -> Iterator[None]:
    """Ctrl-C ends the processes as well: no run is tried again then."""
    try:
        yield
    except BaseException:
        stopping.set()
        raise


@contextlib.contextmanager
def _shown(
    work: Sequence[Work], request: Request, failures: list[Failure], write_tables: Callable[[], None]
) -> Iterator[None]:
    """Keeps index.html and the tables up to date."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.is_set():
            live.write(work, request, dict(failures))
            write_tables()
            ended.wait(live.REFRESH)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        live.write(work, request, dict(failures))
        write_tables()


def _attempt(
    one: Work,
    request: Request,
    commands: Commands,
    environment: dict[str, str],
    tries: int,
    failures: list[Failure],
    stopping: threading.Event,
    report: Report,
) -> None:
    """A run and its evaluations, tried again where a process fails, which resumes it.

    Raises:
        Busy: a process of a coordinator that died is still at work on it.
    """
    place = request.output_dir / "runs" / one.run.name
    shared = [f"--tfds_data_dir={request.tfds_data_dir}"] if request.tfds_data_dir else []
    training = [*commands.train, *one.run.flags(request.data_root), f"--output_dir={place}", *shared]
    began, reason = time.monotonic(), ""
    for _ in range(tries):
        if stopping.is_set():
            return
        try:  # seen here, rather than by a process that reads all images first
            with files.locked(place):
                pass
        except files.LockedError:
            raise Busy from None
        reason = "" if runs.is_complete(place) else _process(training, place, environment)
        for folder in one.missing(request.output_dir) if not reason else ():
            words = [f"--run_dir={place}", f"--output_dir={place / folder}", "--nopage", *shared]
            words += one.evaluations[folder]
            reason = _process([*commands.evaluate, *words], place, environment)
            if reason:
                break
        if not reason:
            report(f"done    {one.run.name}   {time.monotonic() - began:.0f} s")
            return
        if files.AT_WORK in reason:
            raise Busy
    if stopping.is_set():
        return
    report(f"failed  {one.run.name}: {reason}   ({place / LOG})")
    failures.append(Failure(one.run.name, reason))


def _process(words: Sequence[str], place: Path, environment: dict[str, str]) -> str:
    """Runs a command, with what it says added to the run's log; its last line where it failed, else nothing."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / LOG).open("ab") as log:
        log.write(f"$ {' '.join(words)}\n".encode(errors="backslashreplace"))
        log.flush()
        start = log.tell()
        code = subprocess.run(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, check=False)
    if code.returncode == 0:
        return ""
    with (place / LOG).open("rb") as log:
        log.seek(start)
        said = log.read().decode(errors="backslashreplace").strip().splitlines()
    return said[-1] if said else f"ended with code {code.returncode}"


def _environment(slot: int, jobs: int, gpus: Sequence[str]) -> dict[str, str]:
    """A job's share of the cores, and a GPU of its own where there are several."""
    share = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if jobs > 1:
        environment |= {"TF_NUM_INTRAOP_THREADS": share, "OMP_NUM_THREADS": share}
    if gpus and jobs > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, else those that NVIDIA's driver lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def default_jobs() -> int:
    """One process for each GPU; one where there is none."""
    return max(1, len(_gpus()))
