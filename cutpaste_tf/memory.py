"""Memory: how much is free, and whether an error means that it ran out. Linux; elsewhere nothing is known."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None

_CGROUPS = Path("/sys/fs/cgroup")
_handler: Any = None
_WORDS = (
    *("RESOURCE_EXHAUSTED", "ResourceExhausted", "Out of memory", "failed to allocate memory", "bad_alloc"),
    "can't start new thread",
    "received an exception:Status: 1,",  # oneDNN's, whose status 1 means that there is no memory
)


def free() -> int | None:
    """Bytes that this process can still take: the least of what the machine, its control groups and `ulimit -v` leave.

    None if unknown.
    """
    found = [value for value in (_of_machine(), _of_process(), *_of_groups()) if value is not None]
    return max(0, min(found)) if found else None


def is_exhausted(error: BaseException) -> bool:
    """Whether an error, for example of TensorFlow or JAX, means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, Exception) and any(word in f"{type(error).__name__} {error}" for word in _WORDS)


def on_abort(message: Callable[[], str]) -> None:
    """Makes the process end with a message and exit code 2 where native code would abort it.

    TensorFlow does so if it gets no memory: C++ code of its threads has no other way.

    Args:
        message: gives the line for standard error.
    """
    global _handler

    def end(number: int) -> None:
        del number
        os.write(2, f"{message()}\n".encode(errors="backslashreplace"))
        os._exit(2)

    _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(end)  # kept, since C does not count as a reference
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Windows
        ctypes.CDLL(None).signal(int(signal.SIGABRT), _handler)


def shown(size: float) -> str:
    """Bytes as a number of GB (10^9 bytes)."""
    return f"{size / 1e9:.1f} GB"


def _of_machine() -> int | None:
    return _field(Path("/proc/meminfo"), "MemAvailable")


def _of_groups() -> Iterator[int | None]:
    """What the control groups of a container or a cluster's job leave, and those above them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers in ("", "memory"):  # of version 2, of version 1
            path = PurePosixPath(name.removeprefix("/"))
            for group in (path, *path.parents):
                yield _of_group(_CGROUPS / controllers / group, is_first=bool(controllers))


def _of_group(folder: Path, *, is_first: bool) -> int | None:
    """What a control group leaves, in bytes; cached files do not count. None without a limit."""
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if is_first else ("memory.max", "memory.current")
    try:
        limit, used = (int((folder / name).read_text()) for name in names)
        rows = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        counts = {name: int(count) for name, count in rows}
    except (OSError, ValueError):  # no such group, as seen from inside a container; or no limit: `max`
        return None
    prefix = "total_" if is_first else ""
    return limit - used + sum(counts.get(f"{prefix}{state}_file", 0) for state in ("active", "inactive"))


def _of_process() -> int | None:
    """What `ulimit -v` leaves."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    size = _field(Path("/proc/self/status"), "VmSize")
    return None if limit == resource.RLIM_INFINITY or size is None else limit - size


def _field(path: Path, name: str) -> int | None:
    """A field of a file in /proc, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
