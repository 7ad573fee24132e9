"""Flags that say which devices compute, and which processes do so together."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from cutpaste_tf import devices, processes
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import Report, hush, say

_DEVICES = flags.DEFINE_string(
    "devices", devices.AUTO, "Number of GPUs, TPUs or, without any, CPUs that share each batch; auto: all."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    "",
    "HOST:PORT of the first of several processes that are given this command, on hosts of their own or not; auto: as "
    "Slurm or a TPU's environment says. With KERAS_BACKEND=jax.",
)
_PROCESSES = flags.DEFINE_integer("num_processes", 0, "Number of processes, with --coordinator.", lower_bound=0)
_INDEX = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0, with --coordinator.", lower_bound=-1)
OWN = (_DEVICES, _COORDINATOR, _PROCESSES, _INDEX)


def device_count() -> str:
    """What --devices says."""
    return _DEVICES.value


@contextlib.contextmanager
def shared(folders: Sequence[Path], patterns: Sequence[str]) -> Iterator[tuple[list[Path], Report]]:
    """Joins the other processes, if there are any.

    Args:
        folders: that the command works in.
        patterns: of the files in them that every process needs.

    Yields:
        The folders that this process works in, see `processes.own_folder`; and where its lines go.

    Raises:
        InputError: the flags do not fit together, or the others did not come.
    """
    if not _COORDINATOR.value and (_PROCESSES.value or _INDEX.value >= 0):
        raise InputError("--num_processes and --process_id need --coordinator.")
    if _COORDINATOR.value:
        processes.join(_COORDINATOR.value, _PROCESSES.value, _INDEX.value)
    with contextlib.ExitStack() as stack:
        own = [stack.enter_context(processes.own_folder(folder, patterns)) for folder in folders]
        yield own, say if processes.part()[0] == 0 else hush
