"""Several processes, on one host or many, that carry out one command together; with Keras on JAX.

All are given the same command and go through it step by step alike. The first one alone has the run's folder: the
others work in a temporary copy of it (`own_folder`), which nobody reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cutpaste_tf import surroundings
from cutpaste_tf.errors import InputError

_AUTO = "auto"
PATIENCE = 60  # seconds without a word of a process before it counts as gone
# What JAX says when a process does not answer: for Gloo on CPUs, for NCCL, for the service that all have joined.
_LOSS = ("Gloo", "NCCL", "closed by peer", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination service", "heartbeat")
_PART = 2**28  # bytes that are sent at a time
_joined: list[str] = []  # the coordinator, once this process has


def join(coordinator: str, processes: int = 0, index: int = -1) -> None:
    """Joins the other processes of this command, before anything is computed.

    Args:
        coordinator: HOST:PORT of the first process, or `auto`: what Slurm, Open MPI or a TPU's environment says.
        processes: number of processes; with `auto` left out.
        index: of this one, from 0; with `auto` left out.

    Raises:
        InputError: Keras is not on JAX, the three do not fit together, or the others did not come.
    """
    if _joined:
        return
    if surroundings.backend() != "jax":
        raise InputError(
            f"--coordinator: several processes need KERAS_BACKEND=jax; with {surroundings.backend()} Keras 3 uses the "
            "GPUs of one host in one process (keras-team/keras#20585)."
        )
    if coordinator != _AUTO and not 0 <= index < processes:
        raise InputError(
            f"--coordinator={coordinator} needs --num_processes and, from 0, --process_id; found {processes} and "
            f"{index}."
        )
    import jax

    try:
        if coordinator == _AUTO:
            jax.distributed.initialize(heartbeat_timeout_seconds=PATIENCE)
        else:
            jax.distributed.initialize(coordinator, processes, index, heartbeat_timeout_seconds=PATIENCE)
    except (RuntimeError, ValueError) as error:
        if coordinator == _AUTO:
            raise InputError(
                f"--coordinator=auto: JAX finds no Slurm, Open MPI or TPU here ({str(error).splitlines()[0]}); give "
                "HOST:PORT, --num_processes and --process_id."
            ) from None
        raise InputError(f"--coordinator={coordinator}: {str(error).splitlines()[0]}") from None
    _joined.append(coordinator)


def have_joined() -> bool:
    """Whether this is one of several processes."""
    return bool(_joined)


def part() -> tuple[int, int]:
    """(index, count): which part of every batch is this process's, of so many of one size."""
    if not _joined:
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return bool(_joined) and any(word in str(error) for word in _LOSS)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Makes an InputError of one process that of all, so that none waits for it."""
    error = ""
    try:
        yield
    except InputError as found:
        if not _joined:
            raise
        error = str(found)
    if _joined and any(said := _gathered(error)):
        raise InputError(next(line for line in said if line))


def agree(what: str, seen: object) -> None:
    """Sees that all processes have the same before them, where another order or number would be found by nobody.

    Args:
        what: for the user, as `test images`.
        seen: of this process; its text counts.

    Raises:
        InputError: in all processes, where one sees something else.
    """
    if _joined and len({*_gathered(hashlib.sha256(repr(seen).encode(errors="backslashreplace")).hexdigest())}) > 1:
        raise InputError(f"The processes of this command see different {what}; give every host the same files.")


@contextlib.contextmanager
def own_folder(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """The folder that this process works in: the first one's is the folder itself, the others' is temporary.

    Args:
        folder: need be there for the first process only.
        patterns: of the files in it that the others are given.
    """
    if not _joined:
        yield folder
        return
    first = part()[0] == 0
    names = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}) if first else []
    count = int(_from_first(np.array(len(names))))
    if first:
        for path in names:
            _send(str(path.relative_to(folder)).encode(), path.read_bytes())
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cutpaste_") as temporary:
        own = Path(temporary) / "run"
        for _ in range(count):
            name, data = _send(b"", b"")
            path = own / name.decode()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        yield own


def _send(*texts: bytes) -> list[bytes]:
    """The first process's texts, in every process."""
    received = []
    for text in texts:
        # JAX' integers have 32 bits by default: a number in two of them, and content in parts.
        high, low = (int(half) for half in _from_first(np.array(divmod(len(text), _PART), np.int32)))
        parts = []
        for size in [_PART] * high + [low] * bool(low):
            start = len(parts) * _PART
            own = np.frombuffer(text[start : start + size], np.uint8) if part()[0] == 0 else np.zeros(size, np.uint8)
            parts.append(_from_first(own).tobytes())
        received.append(b"".join(parts))
    return received


def _from_first(value: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(value))


def _gathered(text: str) -> list[str]:
    """Every process's text, in their order; the first 1,000 bytes of each."""
    from jax.experimental import multihost_utils

    own = np.zeros(1000, np.uint8)
    data = text.encode(errors="backslashreplace")[:1000]
    own[: len(data)] = np.frombuffer(data, np.uint8)
    every = np.asarray(multihost_utils.process_allgather(own))
    return [one.tobytes().rstrip(b"\0").decode(errors="replace") for one in every.reshape(-1, 1000)]
