"""Carries out the work of a plan, and keeps the page and the tables up to date meanwhile.

Several coordinators, on machines that share the folder, divide the runs by locks, which go with their process. A run
that was cut off is resumed by the same command.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cutpaste_tf import progress
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import Report
from cutpaste_tf.reproduction import live
from cutpaste_tf.reproduction.executors import Executor
from cutpaste_tf.reproduction.plan import Work
from cutpaste_tf.reproduction.runner import LOG, Job

# Variable: when the command was given, in nanoseconds, where that was before this process began, as with Slurm.
BEGAN = "CUTPASTE_REPRODUCTION_BEGAN"
_PAUSE = 5.0  # seconds between looks at runs that others have claimed


class Failure(NamedTuple):
    """A run that was given up.

    Attributes:
        name: of the run.
        reason: the last line that it said.
    """

    name: str
    reason: str


def carry_out(
    work: Sequence[Work],
    job: Job,
    executor: Executor,
    *,
    report: Report,
    write_tables: Callable[[], None] = lambda: None,
) -> list[Failure]:
    """Does what is not done.

    Args:
        work: of `plan`.
        job: what its runs have in common.
        executor: carries them out.
        report: takes a line for the user.
        write_tables: is called now and then, and at the end.

    Returns:
        The runs that were given up.

    Raises:
        InputError: the folder cannot be written.
    """
    root = job.request.output_dir
    todo = [one for one in work if not one.is_done(root)]
    # What was given up before this command was given is tried again; what the others give up meanwhile is not.
    began = int(os.environ.get(BEGAN) or time.time_ns())
    marks = {one.run.name: one.given_up(root) for one in todo}
    before = {name: mark if mark and int(mark.partition(" ")[0]) < began else "" for name, mark in marks.items()}
    failures: list[Failure] = []
    report(f"{len(work) - len(todo)} of {len(work)} runs are done.")
    with _shown(work, job, write_tables, report):
        while todo:
            busy: list[Work] = []
            with contextlib.closing(executor(todo, job, before)) as outcomes:
                for one, state, said, seconds in progress.track(outcomes, len(todo), "Runs", report):
                    if state == "failed":
                        report(f"failed  {one.run.name}: {said}   ({root / 'runs' / one.run.name / LOG})")
                        failures.append(Failure(one.run.name, said))
                    elif state == "done" and seconds:
                        report(f"done    {one.run.name}   {seconds:.0f} s")
                    elif state == "busy":  # somebody else's; looked at again later
                        busy.append(one)
            if len(busy) == len(todo):
                time.sleep(_PAUSE)
            todo = [one for one in busy if not one.is_done(root)]
    return failures


@contextlib.contextmanager
def _shown(work: Sequence[Work], job: Job, write_tables: Callable[[], None], report: Report) -> Iterator[None]:
    """Keeps index.html and the tables up to date."""
    ended = threading.Event()

    def keep() -> None:
        is_told = False
        while not ended.is_set():
            try:
                live.write(work, job.request)
                write_tables()
                is_told = False
            except (OSError, InputError) as error:  # a full disk, a share that is away: the runs go on, and so do we
                if not is_told:
                    report(f"Warning: the page and the tables stay as they are for now ({error}).")
                is_told = True
            ended.wait(live.REFRESH)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        live.write(work, job.request)
        write_tables()
