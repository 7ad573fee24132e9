"""Files and folders that are written whole or not at all, and locks that keep a second process out.

A name that ends in `.partial` is being written, or was when the process died, see `partials`; nothing reads it.
"""

import contextlib
import csv
import errno
import io
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import filelock
import numpy as np

from cutpaste_tf import arrays, partials
from cutpaste_tf.errors import InputError, NoRoomError
from cutpaste_tf.progress import Report

T = TypeVar("T")

# What NumPy raises on an array file that is damaged, or half of one.
DAMAGE = (ValueError, OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)
# What to do about it.
COPY_AGAIN = "copy the folder again from where it was trained, or delete it and train again"


def damage(error: BaseException) -> str:
    """What one of DAMAGE says, in a few words: what NumPy does not know it takes for pickled objects."""
    return "not a file of arrays" if "pickle" in str(error) else str(error)


# How a file system says that it has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class LockedError(InputError):
    """Another process is at work."""


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keeps a second process out of a folder, which is made; the lock goes with the process, however it ends.

    What killed processes left half written in the folder is removed.

    Args:
        folder: where the lock's file lies.
        name: of that file; another name is another lock.

    Raises:
        LockedError: another process is at work in the folder.
        InputError: it cannot be written, or not be locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / name, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise LockedError(f"Another process is at work in {folder}; wait for it, or name another folder.") from None
    except NotImplementedError as error:  # filelock 3 on a system without flock
        raise _not_lockable(folder, str(error)) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise _not_lockable(folder, error.strerror) from None
        raise InputError(f"{folder} cannot be written ({error.strerror or error}).") from None
    try:
        partials.remove_left(folder)
        yield
    finally:
        lock.release()


def check_writable(folder: Path, *, locks: bool = False) -> None:
    """Sees whether a folder, or one that is still to be made, can be written to; leaves nothing there.

    Args:
        folder: to look at.
        locks: whether it must have locks as well, see `locked`.

    Raises:
        InputError: it cannot, or has none.
    """
    place = folder.absolute()
    try:
        with tempfile.TemporaryFile(dir=next(parent for parent in (place, *place.parents) if parent.is_dir())) as file:
            if locks:
                partials.lock(file.fileno())
    except OSError as error:
        if locks and error.errno in _NO_LOCKS:
            raise _not_lockable(folder, error.strerror) from None
        raise InputError(f"{folder} cannot be written ({error.strerror or error}).") from None


def _not_lockable(folder: Path, reason: str | None) -> InputError:
    return InputError(
        f"{folder} can be written, but not locked against a second process ({reason}): its file system has no locks, "
        "as NFS mounted with nolock, or Lustre without flock. Name a folder on another file system, or have this one "
        "mounted with locks."
    )


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader finds all of it or, if the process is killed, what was there before."""
    with _whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Names what cannot be written in errors that name nothing, as a full disk's."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(place)
        raise


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the path's place when the block ends well."""
    with naming(path), partials.partial(path) as partial:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _move(partial, path)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which takes `folder`'s place when the block ends well."""
    partials.remove_left(folder.parent)
    with partials.partial(folder, is_folder=True) as partial:
        new = partial / "new"
        new.mkdir()
        yield new
        if folder.exists():
            _move(folder, partial / "old")
        _move(new, folder)


def _move(source: Path, target: Path) -> None:
    """Renames; on Windows, where a file that somebody reads cannot be replaced, tries again for some seconds."""
    for attempt in range(50):
        try:
            source.replace(target)
        except PermissionError:
            if os.name != "nt" or attempt == 49:
                raise
            time.sleep(0.1)
        else:
            return


def write_arrays(path: Path, named_arrays: Mapping[str, Any]) -> None:
    """Writes an .npz, whole or not at all; what lies in a file, see `arrays.allocate`, passes memory in parts."""
    with _whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, value in named_arrays.items():
            array = np.asanyarray(value)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                if not (isinstance(array, np.memmap) and array.flags.c_contiguous):
                    np.lib.format.write_array(member, array, allow_pickle=False)
                    continue
                np.lib.format.write_array_header_2_0(member, np.lib.format.header_data_from_array_1_0(array))
                for part in arrays.batches(array, 1000):
                    member.write(part.data)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads an .npz; arrays that are large lie in files, see `arrays.allocate`.

    Raises:
        one of DAMAGE: it is no .npz, or damaged.
    """
    result: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                major, _ = np.lib.format.read_magic(member)
                read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
                shape, by_columns, dtype = read_header(member)
                if dtype.hasobject:
                    raise ValueError(f"{name} has pickled objects")
                count, *rest = (shape[::-1] if by_columns else shape) or (1,)
                array = arrays.allocate(count, tuple(rest), dtype)
                for part in arrays.batches(array, 1000):
                    part[:] = np.frombuffer(member.read(part.nbytes), dtype).reshape(part.shape)
                array = array.T if by_columns else array
                result[name.removesuffix(".npy")] = array if shape else array[0]
    return result


def cached(
    path: Path,
    read: Callable[[Path], T],
    make: Callable[[], T],
    write: Callable[[Path, T], None],
    report: Report,
) -> T:
    """Reads a file that only saves time, or makes and writes it, also where it is damaged."""
    if path.is_file():
        try:
            return read(path)
        except NoRoomError:
            raise
        except InputError as error:
            report(f"{error} It is computed anew.")
    value = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partials.remove_left(path.parent)
        write(path, value)
    except OSError as error:  # a folder that is only to be read, or a full disk
        report(f"{path} cannot be kept for the next time ({error.strerror or error}).")
    return value


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows under their keys, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, buffer.getvalue().encode())
