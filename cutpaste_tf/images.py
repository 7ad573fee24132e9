"""Images in memory: files read by Pillow -> uint8 of one size, with what is known of them.

Pillow reads, at once and before TensorFlow is loaded: a broken file is found in seconds. Grey
images become three equal channels, 16-bit ones are scaled to 8 bits, transparency is dropped, EXIF
rotation is applied; every image is resized to a square, antialiased bilinear.
"""

import collections
import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cutpaste_tf.errors import InputError

GOOD = "good"
NORMAL, ANOMALOUS, UNKNOWN = 0, 1, -1
# Sets up to this size stay in memory, larger ones in a file: 5,461 images of 256 px.
MEMORY_LIMIT = 2**30


class Item(NamedTuple):
    """An image to read.

    Attributes:
        path: its name in the data set, as `test/crack/001.png`.
        image: the file, or its content.
        mask: the mask's file or content; None where there is none.
        label: NORMAL, ANOMALOUS or UNKNOWN.
        defect: name of the defect; `good` for normal images, empty for unknown ones.
    """

    path: str
    image: Path | bytes
    mask: Path | bytes | None
    label: int
    defect: str


class Examples(NamedTuple):
    """Images with what is known of them.

    Attributes:
        images: uint8 [count, side, side, 3], RGB; a `numpy.memmap` beyond MEMORY_LIMIT.
        paths: of each image, relative to the data set.
        labels: int32 [count]: 0 normal, 1 anomalous, -1 unknown.
        defects: name of each image's defect; `good` for normal ones, empty for unknown.
        masks: of each image, bool [side, side], True on the defect; None where there is none.
        note: what was read and what was done to it, for the user.
    """

    images: np.ndarray
    paths: list[str]
    labels: np.ndarray
    defects: list[str]
    masks: list[np.ndarray | None]
    note: str

    @property
    def digest(self) -> str:
        """Changes when an image, a name or the order changes."""
        sha = hashlib.sha256("\n".join(self.paths).encode())
        sha.update(np.ascontiguousarray(self.images))
        return sha.hexdigest()


def read(items: Sequence[Item], size: int) -> Examples:
    """Reads images and masks, resized to size x size.

    Raises:
        InputError: a file is no whole image, or a mask has another size than its image.
    """
    pixels = allocate(len(items), (size, size, 3))
    masks, kinds = [], []
    for index, item in enumerate(items):
        image, kind = _decode(item.image, item.path)
        pixels[index] = np.asarray(resize(image, size, size))
        masks.append(None if item.mask is None else _read_mask(item.mask, item.path, image.size, size))
        kinds.append(kind)
    return Examples(
        pixels,
        [item.path for item in items],
        np.array([item.label for item in items], np.int32),
        [item.defect for item in items],
        masks,
        f"{len(items)} images ({_count(kinds)}), resized to {size} x {size}",
    )


def read_pixels(path: Path) -> np.ndarray:
    """One image at its own size, uint8 [height, width, 3]; errors as `read`."""
    return np.asarray(_decode(path, str(path))[0])


def allocate(count: int, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> np.ndarray:
    """An empty array [count, *shape]: in memory up to MEMORY_LIMIT, else in a temporary file.

    The file is nameless, in TMPDIR or else in /var/tmp (on many machines /tmp is memory too), and goes
    with the process, however it ends. What the system keeps of it in memory, it can drop.
    """
    whole = (count, *shape)
    size = int(np.prod(whole, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= MEMORY_LIMIT:
        return np.empty(whole, dtype)
    folder = os.environ.get("TMPDIR") or ("/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found here, not by a crash later
        except OSError as error:
            raise InputError(
                f"{folder} has no room for {size / 2**30:.1f} GiB of working data ({error.strerror}); "
                "set TMPDIR to a folder that has."
            ) from None
        return np.memmap(file, dtype, "r+", shape=whole)


def thumbnails(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Images uint8 [count, side, side, 3] reduced to uint8 [count, size, size, 3], antialiased bilinear."""
    return np.stack([np.asarray(resize(Image.fromarray(image), size, size)) for image in images])


def resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resizes antialiased bilinear: first the width, rounding to whole grey levels, then the height.

    Two calls, since versions of Pillow differ in the order in which one call does the two, and with it by a grey
    level here and there.
    """
    narrowed = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return narrowed.resize((width, height), Image.Resampling.BILINEAR)


def _decode(source: Path | bytes, name: str) -> tuple[Image.Image, str]:
    """An image as 8-bit RGB, and what it was."""
    name = str(source) if isinstance(source, Path) else name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                # Pillow reduces color of 16 bits to 8 while it decodes; only the raw mode tells.
                deep = any("16" in str(tile.args) for tile in opened.tile)
                image = ImageOps.exif_transpose(opened)
                image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} cannot be read as an image ({error}); mend or remove it.") from None
    if image.mode in ("I", "F"):
        raise InputError(f"{name} has 32-bit pixels, whose black and white are not known; save it with 8 or 16 bits.")
    color = "grey" if image.mode.startswith(("L", "I;16")) else "RGB" if image.mode.startswith("RGB") else image.mode
    kind = f"{16 if deep else 8}-bit {color}{' with transparency' if image.has_transparency_data else ''}"
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image).astype(np.float64) / 257).astype(np.uint8))
    return image.convert("RGB"), kind


def _read_mask(source: Path | bytes, name: str, image_size: tuple[int, int], size: int) -> np.ndarray:
    """A mask as bool [size, size]: any value but zero is the defect.

    Each pixel is the mask's nearest; of a defect so thin that none is left, every pixel it touches.
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
        deep = opened.mode in ("I", "F") or opened.mode.startswith("I;16")
        values = np.asarray(opened) if deep else None  # small values of 16 bits would vanish in 8
    image = _decode(source, f"the mask of {name}")[0] if values is None else Image.fromarray(values > 0)
    if image.size != image_size:
        mask_name = source if isinstance(source, Path) else f"the mask of {name}"
        found, expected = ("{} x {}".format(*pair) for pair in (image.size, image_size))
        raise InputError(f"{mask_name} has {found} pixels, but its image {name} has {expected}; they must be alike.")
    inside = np.asarray(image)
    mask = Image.fromarray(inside if inside.ndim == 2 else np.any(inside, axis=-1))
    nearest = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST))
    if nearest.any():
        return nearest
    return np.asarray(mask.convert("F").resize((size, size), Image.Resampling.BOX)) > 0


def _count(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(collections.Counter(kinds).items()))
