"""Files and folders that are being written: `.HASH.partial`, beside the place that they will take.

Its writer holds a lock on each, which goes with the process, however it ends: one that nobody has locked was left by a
process that was killed, and is removed. Where the file system has no locks, those that were left stay.
"""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = re.compile(r"\.[0-9a-f]{32}\.partial")
_LOCK = ".lock"  # in a partial folder; a partial file is locked itself


@contextlib.contextmanager
def partial(place: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """A new file, or folder, beside a place; removed at the end, unless it has been moved.

    Args:
        place: that it will take; the folder that it lies in is made only for a folder.
        is_folder: whether to make a folder. It holds its lock's file: what takes the place is made in it.
    """
    path, descriptor = _create(place, is_folder)
    try:
        yield path
    finally:
        _remove(path)
        if descriptor is not None:
            os.close(descriptor)


def remove_left(folder: Path) -> None:
    """Removes from a folder, not from those in it, what killed processes left half written."""
    if fcntl is None:
        return
    for path in folder.glob(".*.partial"):
        if not _NAME.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            descriptor = _open(path, path.is_dir())
            try:
                if lock(descriptor):
                    _remove(path)
            finally:
                os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Locks an open file for as long as it is open; False where somebody else has.

    Raises:
        OSError: the file system has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _create(place: Path, is_folder: bool) -> tuple[Path, int | None]:
    """A partial, and the descriptor that holds its lock, if it has one."""
    while True:
        path = place.with_name(f".{uuid.uuid4().hex}.partial")
        if is_folder:
            path.mkdir(parents=True)
        try:
            descriptor = _open(path, is_folder)
        except FileNotFoundError:
            if not is_folder:
                raise
            continue  # removed before it was locked
        if fcntl is None:  # an open file could not be moved
            os.close(descriptor)
            return path, None
        with contextlib.suppress(OSError):
            if not lock(descriptor) or not path.exists():  # as well
                os.close(descriptor)
                continue
        return path, descriptor


def _open(path: Path, is_folder: bool) -> int:
    """A descriptor of the file that a partial is locked by, which is made where it is missing."""
    return os.open(path / _LOCK if is_folder else path, os.O_RDWR | os.O_CREAT, 0o666)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
