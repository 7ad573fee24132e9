"""The region of an image that counts, given by masks. Pixels outside are black, and are neither fitted nor scored.

An image carries its own region: a pixel is outside if and only if it is black, (0, 0, 0); black pixels inside become
(0, 0, 1). So anything that has an image also has its region.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, masks, names
from cutpaste_tf.images.decoding import opened, refuse_turned
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.settings.data import ReadingSettings
from cutpaste_tf.settings.sizes import Size, shown

FILE = "region.png"  # in the folder of a detector that has one region for all images
_ASPECT = 0.01  # how much a mask's aspect ratio may differ from its image's


def inside(images: np.ndarray) -> np.ndarray:
    """Which pixels of blanked images uint8 [..., height, width, 3] are in the region: bool [..., height, width]."""
    return np.asarray(images.any(axis=-1))


def blank(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """An image uint8 [height, width, 3] that carries its region, bool [height, width]."""
    result = np.where(region[..., None], image, 0).astype(np.uint8)
    result[..., 2] |= region & ~result.any(axis=-1)
    return result


def of_image(name: str, image_size: tuple[int, int], size: Size, settings: ReadingSettings) -> np.ndarray:
    """The region of an image, bool [height, width].

    Args:
        name: the image's name in its data set, or its file.
        image_size: its original (width, height); the mask must have the same aspect ratio.
        size: (height, width) to resize to.
        settings: gives `region`, a file or a folder with a mask for each image.

    Raises:
        InputError: there is no mask for the image, its aspect ratio differs, or it marks nothing.
    """
    path = _file(name, Path(settings.region).expanduser())
    region, mask_size = _read(path, path.stat().st_mtime_ns, size, settings.max_megapixels)
    width, height = mask_size
    if abs(width * image_size[1] / (height * image_size[0]) - 1) > _ASPECT:
        raise InputError(
            f"The region {path} has {width} x {height} pixels, but {name} has {image_size[0]} x {image_size[1]}; "
            "they must have the same aspect ratio."
        )
    return region


def is_folder(region: str) -> bool:
    """Whether a setting names a folder with a mask for each image name rather than one mask for all images."""
    return Path(region).expanduser().is_dir()


def check(region: str) -> None:
    """Checks that a mask or folder of masks exists, before any image is read; empty means that there is no region.

    Raises:
        InputError: it does not exist.
    """
    if region and not Path(region).expanduser().exists():
        raise InputError(f"--region={region} does not exist; give a mask, or a folder of masks named like the images.")


def content(name: str, region: str) -> bytes:
    """The content of an image's mask, to detect changes; empty without a region."""
    return _file(name, Path(region).expanduser()).read_bytes() if region else b""


@functools.lru_cache(64)
def _read(path: Path, modified: int, size: Size, max_megapixels: float) -> tuple[np.ndarray, tuple[int, int]]:
    """A mask resized with nearest-neighbor sampling, and its original (width, height)."""
    del modified  # part of the cache key
    with opened(path, str(path), max_megapixels) as image:
        refuse_turned(image, str(path))
        marked, own = masks.defect(image, str(path)), image.size
    height, width = size
    region = np.asarray(Image.fromarray(marked).resize((width, height), Image.Resampling.NEAREST))
    if not region.any():
        raise InputError(f"The region {path} marks nothing at {shown(size)} px; pixels inside it must be nonzero.")
    region.setflags(write=False)
    return region, own


def _file(name: str, region: Path) -> Path:
    """The mask of an image: the file itself, or the file in the folder whose path ends most like the image's."""
    if not region.is_dir():
        check(str(region))
        return region
    known, parts = _masks_in(region), Path(name).with_suffix("").parts
    for start in range(len(parts)):
        if match := known.get(parts[start:]):
            return match
    raise InputError(f"--region={region} has no mask for {name}; it should be {Path(name).stem}.png.")


@functools.lru_cache(8)
def _masks_in(folder: Path) -> dict[tuple[str, ...], Path]:
    """Masks by the parts of their relative path, without the extension or mask suffix."""
    result: dict[tuple[str, ...], Path] = {}
    for path in folders.image_files(folder):
        place = path.relative_to(folder)
        stem = names.without_mask_suffix(place.stem)[0] or place.stem
        key = (*place.parts[:-1], stem)
        if key in result:
            raise InputError(f"--region={folder}: {result[key]} and {path} are masks for the same name; remove one.")
        result[key] = path
    return result


def enlarged(heat: np.ndarray, size: tuple[int, int], region: np.ndarray | None) -> np.ndarray:
    """A heat map float32 [height, width] resized bilinearly to (width, height), 0 outside its region."""
    result = np.asarray(resize(Image.fromarray(heat), *size))
    if region is None:
        return result
    return result * np.asarray(Image.fromarray(region).resize(size, Image.Resampling.NEAREST))
