"""Who carries out runs: here, threads that wait for processes; `ray_cluster` has the workers of a cluster.

An executor is a function from runs to their outcomes, in whatever order they come.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from cutpaste_tf import surroundings
from cutpaste_tf.errors import InputError
from cutpaste_tf.reproduction.plan import Work
from cutpaste_tf.reproduction.runner import Job, Outcome, Processes, Share, attend

PACKAGES = str(Path(__file__).resolve().parents[2])  # where another process finds our package
# (runs, what they have in common, by run's name: what `Work.given_up` said at the beginning) -> outcomes
Executor = Callable[[Sequence[Work], Job, Mapping[str, str]], Generator[Outcome, None, None]]


def local(jobs: int = 0, *, gpu: bool = False) -> Executor:
    """Threads that each wait for a process.

    Args:
        jobs: processes at a time, which share the cores; on a machine with several GPUs each has one of its own. 0: one
            for each GPU, or one.
        gpu: refuse where the backend finds no GPU.

    Raises:
        InputError: it finds none.
    """
    found = gpus()
    jobs = jobs or max(1, len(found))
    if gpu and not _has_gpu():
        raise InputError(
            f"--gpu: {surroundings.backend()} finds no GPU here (the driver, or CUDA_VISIBLE_DEVICES, names "
            f"{len(found)}). Install its build for GPUs, or leave --gpu out."
        )

    def execute(todo: Sequence[Work], job: Job, before: Mapping[str, str]) -> Generator[Outcome, None, None]:
        slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(jobs):
            slots.put(slot)

        def one(work: Work) -> Outcome:
            slot = slots.get()
            try:
                return attend(work, job, share(slot, jobs, found), processes, before[work.run.name])
            finally:
                slots.put(slot)

        with ThreadPoolExecutor(jobs) as pool, Processes() as processes:
            futures = [pool.submit(one, work) for work in todo]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    return execute


def share(slot: int, jobs: int, found: Sequence[str]) -> Share:
    """What the process in a slot may use: its part of the cores, and a GPU of its own where there are several jobs."""
    if jobs == 1:
        return Share()
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    first, last = slot * len(every) // jobs, (slot + 1) * len(every) // jobs
    cores = every[first : max(last, first + 1)]
    environment = {"TF_NUM_INTRAOP_THREADS": str(len(cores)), "OMP_NUM_THREADS": str(len(cores))}
    if found:
        environment["CUDA_VISIBLE_DEVICES"] = found[slot % len(found)]
    return Share(environment, tuple(cores))


def gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, else those that NVIDIA's driver lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def _has_gpu() -> bool:
    """Asked of a process of its own, since one that has found a GPU keeps its memory."""
    code = (
        f"import sys; sys.path.insert(0, {PACKAGES!r})\n"
        "from cutpaste_tf.backend import keras\n"
        "sys.exit(not keras.distribution.list_devices('gpu'))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
