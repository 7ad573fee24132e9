"""Files and folders that are being written: `.HASH.partial`, next to their final place.

The writer locks each of them until its process ends. One that is not locked was left by a killed process and is
removed. On file systems without locks, leftovers stay.
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
    """A new file or folder next to `place`; removed at the end, unless it has been moved.

    Args:
        place: its final place; the parent is created only for a folder.
        is_folder: whether to create a folder. It contains the lock file, and inside it you create what is moved to
            `place`.
    """
    path, descriptor = _create(place, is_folder)
    try:
        yield path
    finally:
        _remove(path)
        if descriptor is not None:
            os.close(descriptor)


def remove_left(folder: Path) -> None:
    """Removes partial files of killed processes from a folder, but not from its subfolders."""
    if fcntl is None:
        return
    for path in folder.glob(".*.partial"):
        if not _NAME.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # removed in the meantime, or another user's
            descriptor = _open(path, path.is_dir())
            try:
                if lock(descriptor):
                    _remove(path)
            finally:
                os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Locks an open file until it is closed; False if another process holds the lock.

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
    """Creates a partial file or folder; returns it and the descriptor of its lock, if any."""
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
            if not lock(descriptor) or not path.exists():  # removed before it was locked
                os.close(descriptor)
                continue
        return path, descriptor


def _open(path: Path, is_folder: bool) -> int:
    """Opens the lock file of a partial file or folder; creates it if missing."""
    return os.open(path / _LOCK if is_folder else path, os.O_RDWR | os.O_CREAT, 0o666)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
