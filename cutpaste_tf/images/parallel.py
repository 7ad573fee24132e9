"""The same work on many files at once, by a thread for each core: Pillow decodes and resizes without Python's lock."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], *, ahead: int = 0) -> Iterator[R]:
    """What a function gives for each item, in the order of the items; as many at a time as there are cores.

    An error is that of the first item that has one. Items are taken `ahead` only, so that little waits in memory; 0:
    four for each core.
    """
    count = cores()
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
            for one in waiting:
                one.cancel()


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
