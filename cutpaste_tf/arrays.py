"""Large arrays in memory-mapped files; only the part in use is in memory."""

import mmap
import os
import tempfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cutpaste_tf.errors import NoRoomError

# Arrays up to this size (682 images of 256 px) stay in memory; larger ones are in a file. Training copies an array in
# memory with a border, and twice while the border is added: at most 820 MB, however many images there are.
MEMORY_LIMIT = 2**27
_IN_USE = 2**26


def allocate(count: int, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> np.ndarray:
    """An uninitialized array [count, *shape]: in memory up to MEMORY_LIMIT, otherwise in a temporary file.

    The file is unnamed and is in TMPDIR or else /var/tmp (on many machines /tmp is in memory). It is removed when the
    process ends, however it ends. The system can drop the parts it holds in memory, see `release`.
    """
    full_shape = (count, *shape)
    size = int(np.prod(full_shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= MEMORY_LIMIT:
        return np.empty(full_shape, dtype)
    folder = os.environ.get("TMPDIR") or ("/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):  # Linux: detects a full disk here instead of crashing later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise NoRoomError(
                f"{folder} has no room for {size / 2**30:.1f} GiB of working data ({error.strerror}); "
                "set TMPDIR to a folder that has room."
            ) from None
        return np.memmap(file, dtype, "r+", shape=full_shape)


def release(array: np.ndarray) -> None:
    """Frees the memory of a file-backed array from `allocate`, or of a view of one.

    Nothing is lost: the system writes changes to the file and reads it again on access.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def in_memory(array: np.ndarray, most: int = 64) -> int:
    """How many rows of a file-backed array to use before it is released: 64 MiB, at least one and at most `most`."""
    return max(1, min(most, _IN_USE // max(1, array[:1].nbytes)))


def batches(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """An array's rows in order, `size` at a time; rows of an array in a file do not stay in memory."""
    for start in range(0, len(array), size):
        yield array[start : start + size]
        release(array)


def rows(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array's rows one by one; for memory see `batches`."""
    for batch in batches(array, in_memory(array)):
        yield from batch
