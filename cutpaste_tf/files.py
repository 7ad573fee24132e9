"""Atomic writing of files and folders, and locks against a second process.

Files whose names end in `.partial` are being written, or were when the process died, see `partials`. They are never
read.
"""

import contextlib
import csv
import ctypes
import errno
import io
import math
import os
import struct
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

import filelock
import numpy as np

from cutpaste_tf import arrays, partials
from cutpaste_tf.errors import InputError, NoRoomError
from cutpaste_tf.progress import Report

T = TypeVar("T")

# What reading raises for a damaged or truncated array file, or one with arrays that do not fit together.
DAMAGE = (
    *(ValueError, TypeError, IndexError, KeyError, AttributeError, OSError, EOFError, NotImplementedError),
    *(RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
_MOST_COMPRESSED = 1040  # times smaller: what deflate can do at most
# Advice for the user.
COPY_AGAIN = "copy the folder again from where it was trained, or delete it and train again"


def damage(error: BaseException) -> str:
    """A short message for an error in DAMAGE."""
    if "pickle" in str(error) or "not a zip file" in str(error):
        return "not a file of arrays"
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__


@contextlib.contextmanager
def reading(path: Path, mend: str, *, or_else: str = "") -> Iterator[None]:
    """Turns errors in DAMAGE about a file into InputErrors that say how to mend it; a full disk stays what it is.

    Args:
        path: the file.
        mend: advice for the user.
        or_else: what else may be wrong with it, such as ` or from another version`.
    """
    try:
        yield
    except NoRoomError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} is damaged{or_else} ({damage(error)}){mend}") from None


# Errors of file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class LockedError(InputError):
    """Another process is using the folder."""


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Locks a folder, which is created if missing, against other processes; the lock ends with the process.

    Partial files left by killed processes are removed.

    Args:
        folder: folder of the lock file.
        name: name of the lock file; different names are different locks.

    Raises:
        LockedError: another process holds the lock.
        InputError: the folder cannot be written or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / name, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise LockedError(f"Another process is using {folder}; wait for it, or give another folder.") from None
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
    """Checks that a folder, which may not exist yet, can be written to; leaves nothing behind.

    Args:
        folder: the folder to check.
        locks: whether it must also support locks, see `locked`.

    Raises:
        InputError: it cannot be written to, or does not support locks.
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
        "like NFS mounted with nolock or Lustre without flock. Give a folder on another file system, or have this one "
        "mounted with locks."
    )


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically: a reader finds the new content or, if the process is killed, the old content."""
    with _whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Adds a path to errors without one, such as those of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(place)
        raise


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; it replaces `path` if the block succeeds."""
    with naming(path), partials.partial(path) as partial:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _move(partial, path)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write to; it replaces `folder` if the block succeeds."""
    partials.remove_left(folder.parent)
    with partials.partial(folder, is_folder=True) as partial:
        new = partial / "new"
        new.mkdir()
        yield new
        if not folder.exists():
            _move(new, folder)
        elif not _exchange(new, folder):
            _move(folder, partial / "old")
            _move(new, folder)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two folders, so that there is one under each name at every moment; False if the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    at_cwd, exchange = -100, 2
    return not rename(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), exchange)


def _move(source: Path, target: Path) -> None:
    """Renames; on Windows, where an open file cannot be replaced, retries for a few seconds."""
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
    """Writes an .npz atomically; arrays that are in files, see `arrays.allocate`, are copied in parts."""
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
    """Reads an .npz; large arrays are placed in files, see `arrays.allocate`. Nothing is unpickled.

    Raises:
        NoRoomError: there is no room for a large array.
        one of DAMAGE: it is not an .npz or is damaged.
    """
    result: dict[str, np.ndarray] = {}
    if not path.is_file():  # a pipe would wait for its writer, a device might not end
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.file_size > _MOST_COMPRESSED * info.compress_size:
                raise ValueError(f"{info.filename} claims to be larger than it can be")
            with archive.open(info) as member:
                result[info.filename.removesuffix(".npy")] = _read_array(member, info)
    return result


def _read_array(member: IO[bytes], info: zipfile.ZipInfo) -> np.ndarray:
    """One array of an archive; raises what `read_arrays` raises."""
    major, _ = np.lib.format.read_magic(member)
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
    shape, by_columns, dtype = read_header(member)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} has pickled objects")
    if math.prod(shape) * dtype.itemsize != info.file_size - member.tell():  # before memory is taken for it
        raise ValueError(f"{info.filename} does not have as many bytes as its shape {shape} needs")
    count, *rest = (shape[::-1] if by_columns else shape) or (1,)
    array = arrays.allocate(count, tuple(rest), dtype)
    for part in arrays.batches(array, 1000):
        part[:] = np.frombuffer(member.read(part.nbytes), dtype).reshape(part.shape)
    array = array.T if by_columns else array
    return array if shape else array[0]


def check_numbers(named_arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless the arrays are of real, finite numbers."""
    for name, array in named_arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite numbers")


def cached(
    path: Path,
    read: Callable[[Path], T],
    make: Callable[[], T],
    write: Callable[[Path, T], None],
    report: Report,
) -> T:
    """Reads a value from a cache file; if the file is missing or damaged, makes the value and writes it."""
    if path.is_file():
        try:
            return read(path)
        except NoRoomError:
            raise
        except InputError as error:
            report(f"{error} Recomputing it.")
    value = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partials.remove_left(path.parent)
        write(path, value)
    except OSError as error:  # a read-only folder, or a full disk
        report(f"{path} cannot be cached ({error.strerror or error}).")
    return value


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by the column names in its first line.

    Raises:
        OSError, ValueError: the file does not exist or is not a CSV file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows as CSV with a header, atomically."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, buffer.getvalue().encode())
