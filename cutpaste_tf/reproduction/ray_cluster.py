"""Executes runs on a Ray cluster with shared folders. Each run is a task and is restarted if its node dies."""

import collections
import logging
import os
import pickle
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf.errors import InputError
from cutpaste_tf.reproduction.carrying_out import PACKAGES, Executor
from cutpaste_tf.reproduction.plan import Work
from cutpaste_tf.reproduction.runner import Job, Outcome

_RETRIES = 20  # for a run whose node or worker died


def executor(address: str, jobs: int, *, gpu: bool = False) -> Executor:
    """Joins a cluster.

    Args:
        address: address of the cluster as HOST:PORT, or `auto` for the one this machine belongs to.
        jobs: tasks at a time, which share the cluster's cores; 0: one for each GPU, or one for each node.
        gpu: refuse a cluster without GPUs.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise InputError("--executor=ray needs Ray; run pip install 'ray>=2.40,<3' here and on every node.") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--ray_address={address}: there is no Ray cluster to join ({str(error).splitlines()[0]}); start one with "
            "ray start --head, and give the address it prints."
        ) from None
    cores, gpus = _share([node["Resources"] for node in ray.nodes() if node["Alive"]], jobs)
    if gpu and not gpus:
        raise InputError(f"--gpu: no node of the Ray cluster at {address} has a GPU.")
    variables = {"OMP_NUM_THREADS": str(cores)} | ({} if gpus else {"TF_NUM_INTRAOP_THREADS": str(cores)})
    folder, packages = str(Path.cwd()), PACKAGES

    # Defined here so that its code is sent along: a worker cannot import our package before it knows where it is.
    def task(content: bytes) -> bytes:
        os.chdir(folder)
        sys.path.insert(0, packages)
        # Ray cancels with SIGINT, which a node started in the background of a script ignores.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from cutpaste_tf.reproduction import runner

        with runner.Processes() as processes:
            work, job, variables = pickle.loads(content)
            return pickle.dumps(runner.attend(work, job, runner.Share(variables), processes))

    remote: Any = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=_RETRIES)(task)

    def execute(todo: Sequence[Work], job: Job) -> Generator[Outcome, None, None]:
        left, waiting = collections.deque(todo), {}
        try:
            while left or waiting:
                while left and not (jobs and len(waiting) >= jobs):
                    work = left.popleft()
                    waiting[remote.remote(pickle.dumps((work, job, variables)))] = work
                (first,), _ = ray.wait([*waiting])
                work = waiting.pop(first)
                try:
                    yield pickle.loads(ray.get(first))
                except RayTaskError as error:
                    raise InputError(f"A Ray worker failed on {work.run.name}: {error.cause}") from None
                except RayError as error:  # its process died _RETRIES times, perhaps out of memory
                    yield Outcome(work, str(error).strip().splitlines()[0])
        finally:
            for each in waiting:
                ray.cancel(each)
            if waiting:
                ray.wait([*waiting], num_returns=len(waiting), timeout=60)

    return execute


def _share(nodes: Sequence[Mapping[str, float]], jobs: int) -> tuple[int, int]:
    """Cores and GPUs for each task, so that the cluster runs `jobs` tasks at a time."""
    nodes = [node for node in nodes if node.get("CPU")]  # a head node may have none
    if not nodes:
        raise InputError("No node of the Ray cluster has cores to offer; start one with ray start --num-cpus=N.")
    with_gpu = [node for node in nodes if node.get("GPU")]
    if with_gpu:
        return max(1, int(min(node["CPU"] // node["GPU"] for node in with_gpu))), 1
    smallest = int(min(node["CPU"] for node in nodes))
    every = int(sum(node["CPU"] for node in nodes))
    return max(1, min(smallest, every // jobs if jobs else smallest)), 0
