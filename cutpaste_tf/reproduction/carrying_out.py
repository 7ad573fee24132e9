"""Executes the work of a plan and keeps the tables up to date.

An executor is a function from runs to their outcomes, in any order. `local` uses threads that wait for processes on
this machine; `ray_cluster` uses the workers of a cluster.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from cutpaste_tf import environment, progress
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import Report
from cutpaste_tf.reproduction.plan import Work
from cutpaste_tf.reproduction.runner import LOG, Job, Outcome, Processes, Share, attend

PACKAGES = str(Path(__file__).resolve().parents[2])  # where other processes find our package
Executor = Callable[[Sequence[Work], Job], Generator[Outcome, None, None]]


def carry_out(
    work: Sequence[Work],
    job: Job,
    executor: Executor,
    *,
    report: Report,
    write_tables: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Executes the runs that are not done; the caller holds the folder's lock.

    Args:
        work: the result of `plan`.
        job: what its runs have in common.
        executor: executes the runs.
        write_tables: called after each run and at the end.

    Returns:
        The runs that were given up.
    """
    root = job.request.output_dir
    todo = [task for task in work if not task.is_done(root)]
    failures: list[Outcome] = []
    report(f"{len(work) - len(todo)} of {len(work)} runs are done.")
    with _ended_by_signals(), contextlib.closing(executor(todo, job)) as outcomes:
        for outcome in progress.track(outcomes, len(todo), "Runs", report):
            name, failure = outcome.work.run.name, outcome.failure
            if failure:
                report(f"failed  {name}: {failure}   ({root / 'runs' / name / LOG})")
                failures.append(outcome)
            else:
                report(f"done    {name}   {outcome.seconds:.0f} s")
            try:
                write_tables()
            except (OSError, InputError) as error:  # a full disk or an unavailable share: the runs go on, and so do we
                report(f"Warning: the tables cannot be updated for now ({error}).")
    write_tables()
    return failures


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Treats SIGTERM and SIGHUP like Ctrl-C, so that the block ends its processes; signals ignored by nohup stay so."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # only this thread can set handlers
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def stop(*_: object) -> None:
        for number in before:  # a closing terminal sends several, and the next one would interrupt checkpoints
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def local(jobs: int = 0, *, gpu: bool = False) -> Executor:
    """An executor with threads that each wait for a process.

    Args:
        jobs: processes at a time, which share the cores; on a machine with several GPUs, each has its own GPU. 0: one
            for each GPU, or one.
        gpu: refuse if the backend finds no GPU.

    Raises:
        InputError: `gpu` is set, and the backend finds no GPU.
    """
    visible = gpus()
    jobs = jobs or max(1, len(visible))
    if gpu and not _has_gpu():
        raise InputError(
            f"--gpu: {environment.backend()} finds no GPU here (the driver or CUDA_VISIBLE_DEVICES lists "
            f"{len(visible)}). Install its GPU build, or omit --gpu."
        )

    def execute(todo: Sequence[Work], job: Job) -> Generator[Outcome, None, None]:
        slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(jobs):
            slots.put(slot)

        def attend_in_slot(work: Work) -> Outcome:
            slot = slots.get()
            try:
                return attend(work, job, share(slot, jobs, visible), processes)
            finally:
                slots.put(slot)

        with ThreadPoolExecutor(jobs) as pool, Processes() as processes:
            futures = [pool.submit(attend_in_slot, work) for work in todo]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    return execute


def share(slot: int, jobs: int, visible: Sequence[str]) -> Share:
    """The share of a slot: part of the cores and, if there are several jobs, one of the GPUs."""
    if jobs == 1:
        return Share()
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    first, last = slot * len(every) // jobs, (slot + 1) * len(every) // jobs
    cores = every[first : max(last, first + 1)]
    variables = {"TF_NUM_INTRAOP_THREADS": str(len(cores)), "OMP_NUM_THREADS": str(len(cores))}
    if visible:
        variables["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
    return Share(variables, tuple(cores))


def gpus() -> list[str]:
    """The GPUs in CUDA_VISIBLE_DEVICES, or else those listed by NVIDIA's driver."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def _has_gpu() -> bool:
    """Whether there is a GPU; asks a separate process, since one that has found a GPU keeps its memory."""
    code = (
        f"import sys; sys.path.insert(0, {PACKAGES!r})\n"
        "from cutpaste_tf.backend import keras\n"
        "sys.exit(not keras.distribution.list_devices('gpu'))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
