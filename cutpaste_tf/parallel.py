"""Processes many items in parallel with one thread per core; Pillow and scikit-learn compute without the GIL."""

import collections
import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST = 32  # threads; each keeps some memory


def in_order(function: Callable[[T], R], items: Iterable[T], *, ahead: int = 0) -> Iterator[R]:
    """Results of a function for each item, in order, computed with as many threads as there are cores.

    The first item with an error raises it. At most `ahead` items are in progress, to limit memory; 0: four per core.
    """
    count = min(cores(), _MOST)
    ahead = ahead or 4 * count
    with ThreadPoolExecutor(count) as pool:
        waiting: collections.deque[Future[R]] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Room:
    """A memory budget shared by threads: a request that exceeds it waits until others have released memory."""

    def __init__(self, size: float) -> None:
        self._size, self._taken, self._changed = size, 0.0, threading.Condition()

    @contextlib.contextmanager
    def take(self, size: float) -> Iterator[None]:
        """Reserves bytes during the block; a request larger than the budget waits until nothing is reserved.

        A block must not wait for another reservation.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


def cores() -> int:
    """Number of processor cores this process may use, limited by a container's quota."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        usable = os.process_cpu_count()  # pyright: ignore[reportAttributeAccessIssue]
    elif hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count()
    return max(1, math.ceil(min(usable or 1, quota())))


def quota(groups: Path = Path("/sys/fs/cgroup"), self_cgroup: Path = Path("/proc/self/cgroup")) -> float:
    """The smallest CPU quota of this process's control groups, in cores; infinite without a quota.

    Args:
        groups: root of the groups: version 2, or one folder per controller for version 1.
        self_cgroup: lists this process's groups; if a container shows the host's names, the group is the root.
    """
    try:
        lines = self_cgroup.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return math.inf
    least = math.inf
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        path = Path(name.lstrip("/"))
        for place in {path, *path.parents}:
            if controllers:
                least = min(least, *(_quota_of_version_1(groups / top / place) for top in {controllers, "cpu"}))
            else:
                least = min(least, _ratio(_words(groups / place / "cpu.max")))
    return least


def _quota_of_version_1(group: Path) -> float:
    return _ratio(_words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us"))


def _ratio(words: list[str]) -> float:
    """Quota divided by period, from e.g. `200000 100000`; infinite for `max` or -1."""
    if len(words) != 2 or not all(word.isdigit() for word in words) or not int(words[1]):
        return math.inf
    return int(words[0]) / int(words[1])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return []
