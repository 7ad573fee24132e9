"""Reads image files into memory with Pillow: uint8 of one size, with labels and masks.

All images are read at once, on all cores, before TensorFlow is loaded, so a broken file is found in seconds. Every
image becomes 8-bit RGB (`decoding.py`) and is resized to one size, antialiased bilinear. JPEG's `draft` mode, which
decodes at a fraction of the size, would read large photographs several times faster but would change the pixels.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from cutpaste_tf import arrays, parallel
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import decoding, masks, regions
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.progress import Report, no_report, track
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.data import DataSettings
from cutpaste_tf.settings.sizes import Size

NORMAL, ANOMALOUS, UNKNOWN = 0, 1, -1


class Item(NamedTuple):
    """An image to read.

    Attributes:
        path: its name in the data set, such as `test/crack/001.png`.
        image: the file, or its content.
        masks: the mask's files, or their content, whose union is the defect; empty if there is no mask.
        label: NORMAL, ANOMALOUS or UNKNOWN.
        defect: name of the defect; `good` for normal images, empty for unknown ones.
    """

    path: str
    image: Path | bytes
    masks: tuple[Path | bytes, ...]
    label: int
    defect: str


class Examples(NamedTuple):
    """Images with labels and masks.

    Attributes:
        images: uint8 [count, height, width, 3], RGB; a `numpy.memmap` beyond MEMORY_LIMIT.
        paths: path of each image, relative to the data set.
        labels: int32 [count]: 0 normal, 1 anomalous, -1 unknown.
        defects: name of each image's defect; `good` for normal images, empty for unknown ones.
        masks: mask of each image, bool [height, width], True on the defect; None if there is none.
        note: what was read and how it was converted, for the user.
        white: value that became 255, in files with more than 8 bits.
        notices: lines about images that the user should check.
        hashes: hash of each image's pixels; equal for identical images.
    """

    images: np.ndarray
    paths: list[str]
    labels: np.ndarray
    defects: list[str]
    masks: list[np.ndarray | None]
    note: str
    white: int = 255
    notices: tuple[str, ...] = ()
    hashes: Sequence[str] = ()

    def part(self, indices: np.ndarray) -> Self:
        """The images at the indices, int [number], in that order."""
        return self._replace(
            images=self.images[indices],
            paths=[self.paths[index] for index in indices],
            labels=self.labels[indices],
            defects=[self.defects[index] for index in indices],
            masks=[self.masks[index] for index in indices],
            hashes=[self.hashes[index] for index in indices],
        )


def pixel_hash(image: np.ndarray) -> str:
    """A hash of an image's pixels uint8 [height, width, 3]."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest()


def duplicate_groups(hashes: Sequence[str]) -> tuple[np.ndarray, int]:
    """Groups images with the same pixels.

    Args:
        hashes: hash of each image, as in `Examples.hashes`.

    Returns:
        The group of each image, int64 [count], with groups numbered by their first images; and how many images are
        copies of an earlier one.
    """
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(digest, len(numbers)) for digest in hashes], np.int64)
    return groups, len(hashes) - len(numbers)


class _Read(NamedTuple):
    """Information about an image that was read."""

    kind: str
    mask: np.ndarray | None
    notice: str
    hash: str


def read(
    items: Sequence[Item], size: int | Size, settings: DataSettings = DataSettings(), *, report: Report = no_report
) -> Examples:
    """Reads and resizes images and masks.

    Args:
        items: the images.
        size: (height, width), or the side of a square.
        settings: how files are read.

    Raises:
        InputError: a file is not an image, is damaged, too large or brighter than white, or a mask does not fit its
            image.
    """
    height, width = sizes.of(size)
    white = white_of(items, settings, report=report)
    pixels = arrays.allocate(len(items), (height, width, 3))
    places = {index: place for place, index in enumerate(i for i, item in enumerate(items) if item.masks)}
    held_masks = arrays.allocate(len(places), (height, width), bool)

    def read_one(numbered: tuple[int, Item]) -> _Read:
        index, item = numbered
        with decoding.room(item.image):
            return read_into(index, item)

    def read_into(index: int, item: Item) -> _Read:
        image, kind, turned = decoding.decode(
            item.image,
            _name(item),
            white=white,
            background=settings.background,
            max_megapixels=settings.reading.max_megapixels,
        )
        pixels[index] = _resized(image, _name(item), (height, width), settings)
        if item.masks and turned:
            raise InputError(
                f"{_name(item)} is rotated by its EXIF data, and it is unknown whether its mask is rotated too; "
                "save the image upright."
            )
        mask, notice = _read_mask(item, image.size, (height, width), settings) if item.masks else (None, "")
        if mask is not None:
            held_masks[places[index]] = mask
            mask = held_masks[places[index]]
        return _Read(kind, mask, notice, pixel_hash(pixels[index]))

    results: list[_Read] = []
    held = arrays.in_memory(pixels, 256)
    for result in track(parallel.in_order(read_one, enumerate(items)), len(items), "Reading images", report):
        results.append(result)
        if len(results) % held == 0:
            arrays.release(pixels)
            arrays.release(held_masks)
    kinds = [result.kind for result in results]
    conversions = f", white {white}" if any(kind.startswith("16") for kind in kinds) else ""
    if any("transparency" in kind for kind in kinds):
        conversions += f", on the background {','.join(map(str, settings.background))}"
    return Examples(
        pixels,
        [item.path for item in items],
        np.array([item.label for item in items], np.int32),
        [item.defect for item in items],
        [result.mask for result in results],
        f"{len(items)} images ({_count(kinds)}{conversions}), resized to {sizes.shown(size)}",
        white,
        tuple(result.notice for result in results if result.notice),
        [result.hash for result in results],
    )


def white_of(items: Sequence[Item], settings: DataSettings, *, report: Report = no_report) -> int:
    """The value that becomes 255 in files with more than 8 bits: `white`, or the one that the images suggest."""
    return settings.white or decoding.find_white(
        ((item.image, _name(item)) for item in track(items, len(items), "Looking at images", report)),
        settings.reading.max_megapixels,
    )


def sizes_of(items: Iterable[Item], settings: DataSettings) -> list[Size]:
    """(height, width) of images as they are read, upright; raises what `read` raises for files that are not images."""
    found = parallel.in_order(
        lambda item: decoding.size(item.image, _name(item), settings.reading.max_megapixels), items
    )
    return [(height, width) for width, height in found]


def read_resized(
    source: Path | bytes, size: Size, settings: DataSettings, *, name: str = ""
) -> tuple[np.ndarray, tuple[int, int]]:
    """Reads and resizes a file, or its content, as `read` does.

    Args:
        source: the file, or its content.
        size: (height, width) to resize to.
        settings: how it is read.
        name: of the file, where its content is given.

    Returns:
        uint8 [height, width, 3], and its original (width, height).
    """
    name = str(source) if isinstance(source, Path) else name
    settings = dataclasses.replace(settings, white=_white(source, name, settings))
    with decoding.room(source):
        image = Image.fromarray(read_pixels(source, settings, name=name))
        return _resized(image, name, size, settings), image.size


def _resized(image: Image.Image, name: str, size: Size, settings: DataSettings) -> np.ndarray:
    """The resized image, uint8 [height, width, 3], black outside its region if it has one."""
    pixels = np.asarray(resize(image, size[1], size[0]))
    if not settings.reading.region:
        return pixels
    return regions.blank(pixels, regions.of_image(name, image.size, size, settings.reading))


def read_pixels(source: Path | bytes, settings: DataSettings = DataSettings(), *, name: str = "") -> np.ndarray:
    """Reads an image from a file or its content at its original size, uint8 [height, width, 3]; raises like `read`."""
    limit = settings.reading.max_megapixels
    name = str(source) if isinstance(source, Path) else name
    white = _white(source, name, settings)
    decoded = decoding.decode(source, name, white=white, background=settings.background, max_megapixels=limit)
    return np.asarray(decoded.image)


def _white(source: Path | bytes, name: str, settings: DataSettings) -> int:
    return settings.white or decoding.find_white([(source, name)], settings.reading.max_megapixels)


def _name(item: Item) -> str:
    return str(item.image) if isinstance(item.image, Path) else item.path


def _read_mask(
    item: Item, image_size: tuple[int, int], size: Size, settings: DataSettings
) -> tuple[np.ndarray | None, str]:
    """An item's mask, bool [height, width], and a notice for the user, if any."""
    mask, part = masks.read(item.masks, _name(item), image_size, size, settings.reading)
    if settings.reading.region:
        mask &= regions.of_image(_name(item), image_size, size, settings.reading)
    if item.label == NORMAL:
        marked = f"{item.path} is a normal image, but its mask marks a defect; it counts as normal."
        return None, marked if mask.any() else ""
    if part > 0.5:
        return mask, (
            f"The mask of {item.path} covers {100 * part:.0f} % of the image. If masks are zero on the defect, give "
            "--invert_masks."
        )
    return mask, ""


def _count(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(collections.Counter(kinds).items()))
