"""Images in memory: files read by Pillow -> uint8 of one size, with what is known of them.

They are read at once and before TensorFlow is loaded: a broken file is found in seconds. Every image becomes 8-bit RGB
(`decoding.py`) and is resized to a square, antialiased bilinear.
"""

import collections
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutpaste_tf import decoding, masks
from cutpaste_tf.errors import InputError

GOOD = "good"
NORMAL, ANOMALOUS, UNKNOWN = 0, 1, -1
# Sets up to this size stay in memory, larger ones in a file: 5,461 images of 256 px.
MEMORY_LIMIT = 2**30


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """How folders and files are read; the fields are those of `config.Config` with the same names.

    Attributes:
        normal_name: of the folder of normal images.
        test_split: part of the normal images that is held out for testing, where no other folder is for that.
        split_seed: of that part.
        white: value of files with more than 8 bits that becomes 255; 0 takes it from the images.
        background: RGB 0..255, seen through what is transparent.
        max_megapixels: of one picture, 10^6 pixels.
        invert_masks: whether masks are zero on the defect.
    """

    normal_name: str = GOOD
    test_split: float = 0.2
    split_seed: int = 0
    white: int = 0
    background: tuple[int, ...] = (0, 0, 0)
    max_megapixels: float = 200.0
    invert_masks: bool = False


class Item(NamedTuple):
    """An image to read.

    Attributes:
        path: its name in the data set, as `test/crack/001.png`.
        image: the file, or its content.
        masks: files of the mask, or their content; their union is the defect. Empty where there is none.
        label: NORMAL, ANOMALOUS or UNKNOWN.
        defect: name of the defect; `good` for normal images, empty for unknown ones.
    """

    path: str
    image: Path | bytes
    masks: tuple[Path | bytes, ...]
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
        white: value of files with more than 8 bits that became 255.
        notices: what the user should look at, a line each.
    """

    images: np.ndarray
    paths: list[str]
    labels: np.ndarray
    defects: list[str]
    masks: list[np.ndarray | None]
    note: str
    white: int = 255
    notices: tuple[str, ...] = ()

    @property
    def hashes(self) -> list[str]:
        """Of each image's pixels: two images with the same are the same."""
        return [hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).hexdigest() for image in self.images]


def read(items: Sequence[Item], size: int, settings: DataSettings = DataSettings()) -> Examples:
    """Reads images and masks, resized to size x size.

    Raises:
        InputError: a file is no whole image, too large or brighter than white, or a mask does not fit its image.
    """
    white = settings.white or decoding.find_white(
        ((item.image, _name(item)) for item in items), settings.max_megapixels
    )
    pixels = allocate(len(items), (size, size, 3))
    found_masks, kinds, notices = [], [], []
    for index, item in enumerate(items):
        image, kind, turned = decoding.decode(
            item.image,
            _name(item),
            white=white,
            background=settings.background,
            max_megapixels=settings.max_megapixels,
        )
        pixels[index] = np.asarray(resize(image, size, size))
        kinds.append(kind)
        if item.masks and turned:
            raise InputError(
                f"{_name(item)} is turned by its EXIF data, and whether its mask is turned too is not known; "
                "save the image upright."
            )
        found_masks.append(_read_mask(item, image.size, size, settings, notices) if item.masks else None)
    said = f", white {white}" if any(kind.startswith("16") for kind in kinds) else ""
    if any("transparency" in kind for kind in kinds):
        said += f", on the background {','.join(map(str, settings.background))}"
    return Examples(
        pixels,
        [item.path for item in items],
        np.array([item.label for item in items], np.int32),
        [item.defect for item in items],
        found_masks,
        f"{len(items)} images ({_count(kinds)}{said}), resized to {size} x {size}",
        white,
        tuple(notices),
    )


def read_pixels(path: Path, settings: DataSettings = DataSettings()) -> np.ndarray:
    """One image at its own size, uint8 [height, width, 3]; errors as `read`."""
    white = settings.white or decoding.find_white([(path, str(path))], settings.max_megapixels)
    decoded = decoding.decode(
        path, str(path), white=white, background=settings.background, max_megapixels=settings.max_megapixels
    )
    return np.asarray(decoded.image)


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
            if hasattr(os, "posix_fallocate"):  # Linux: a full disk is found here, not by a crash later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
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


def _name(item: Item) -> str:
    return str(item.image) if isinstance(item.image, Path) else item.path


def _read_mask(
    item: Item, image_size: tuple[int, int], size: int, settings: DataSettings, notices: list[str]
) -> np.ndarray | None:
    """An item's mask bool [size, size]; what the user should know of it is added to the notices."""
    mask, part = masks.read(item.masks, _name(item), image_size, size, settings)
    if item.label == NORMAL:
        if mask.any():
            notices.append(f"{item.path} is a normal image, but its mask marks a defect; it counts as normal.")
        return None
    if part > 0.5:
        notices.append(
            f"The mask of {item.path} covers {100 * part:.0f} % of the image; if masks are zero on the defect, give "
            "--invert_masks."
        )
    return mask


def _count(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(collections.Counter(kinds).items()))
