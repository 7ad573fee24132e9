"""Where images come from: a folder -> uint8 images of one size, with labels (MVTec AD's layout).

    CATEGORY/train/good/*                     normal images to learn from
    CATEGORY/test/good/*, test/DEFECT/*       normal and anomalous images to score
    CATEGORY/ground_truth/DEFECT/*_mask.png   optional masks, non-zero where the defect is

Images are read by Pillow, at once and before TensorFlow is loaded: a broken file is found in
seconds. Grey images become three equal channels, 16-bit ones are scaled to 8 bits, transparency is
dropped, EXIF rotation is applied; every image is resized to a square, antialiased bilinear.
"""

import collections
import hashlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cutpaste_tf.errors import InputError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_LITTER = {"thumbs.db", "desktop.ini"}  # file managers leave these behind, beside hidden files
GOOD = "good"
UNKNOWN = -1


class Examples(NamedTuple):
    """Images with what is known of them.

    Attributes:
        images: uint8 [count, side, side, 3], RGB.
        paths: of each image, relative to the folder that was read.
        labels: int32 [count]: 0 normal, 1 anomalous, -1 unknown.
        defects: name of each image's defect; `good` for normal ones, empty for unknown.
        masks: path of each image's mask, None where there is none.
        note: what was read and what was done to it, for the user.
    """

    images: np.ndarray
    paths: list[str]
    labels: np.ndarray
    defects: list[str]
    masks: list[Path | None]
    note: str

    @property
    def digest(self) -> str:
        """Changes when an image, a name or the order changes."""
        sha = hashlib.sha256("\n".join(self.paths).encode())
        sha.update(np.ascontiguousarray(self.images))
        return sha.hexdigest()


def read_train(root: Path, size: int) -> Examples:
    """Reads the normal training images of a category folder.

    Raises:
        InputError: no folder, no train/good, fewer than two images, or a file that is no whole image.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; --data must be a category folder with train/good in it.")
    good = root / "train" / GOOD
    if not good.is_dir():
        categories = sorted(path.parent.parent.name for path in root.glob("*/train/good"))
        hint = f" It holds categories: try --data={root / categories[0]}." if categories else ""
        raise InputError(f"{root} has no folder train/good, where the normal training images should be.{hint}")
    files = _image_files(good)
    if len(files) < 2:
        raise InputError(f"{good} holds {len(files)} images; at least 2 are needed to fit a density, 50 to do it well.")
    return _read(root, files, size, [0] * len(files), [GOOD] * len(files))


def read_test(root: Path, size: int) -> Examples:
    """Reads the test images of a category folder, or every image of a plain folder as unlabelled.

    Raises:
        InputError: no folder, no images, or a file that is no whole image.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; --data must be a category folder with test/*, or hold images.")
    test = root / "test"
    if not test.is_dir():
        nested = sorted(root.glob("*/train")) + sorted(root.glob("*/test"))
        if (root / "train").is_dir() or (root / "ground_truth").is_dir():
            raise InputError(f"{root} has no folder test; name a folder that has, or that holds only images to score.")
        if nested:
            raise InputError(f"{root} holds categories: try --data={nested[0].parent}.")
        files = _image_files(root)
        if not files:
            raise InputError(f"{root} holds no images ({', '.join(EXTENSIONS)}) and no folder test.")
        return _read(root, files, size, [UNKNOWN] * len(files), [""] * len(files))
    files, defects = [], []
    for folder in sorted(path for path in test.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = _image_files(folder)
        files += found
        defects += [folder.name] * len(found)
    if not files:
        raise InputError(f"{test} holds no images ({', '.join(EXTENSIONS)}) in its folders.")
    return _read(root, files, size, [int(defect != GOOD) for defect in defects], defects)


def read_image(path: Path, size: int) -> tuple[np.ndarray, str]:
    """Reads one image.

    Returns:
        uint8 [size, size, 3], and what the file held, as in "8-bit grey".

    Raises:
        InputError: the file is not a whole image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                # Pillow reduces color of 16 bits to 8 while it decodes; only the raw mode tells.
                deep = any("16" in str(tile.args) for tile in opened.tile)
                image = ImageOps.exif_transpose(opened)
                image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} cannot be read as an image ({error}); mend or remove it.") from None
    if image.mode in ("I", "F"):
        raise InputError(f"{path} has 32-bit pixels, whose black and white are not known; save it with 8 or 16 bits.")
    color = "grey" if image.mode.startswith(("L", "I;16")) else "RGB" if image.mode.startswith("RGB") else image.mode
    kind = f"{16 if deep else 8}-bit {color}{' with transparency' if image.has_transparency_data else ''}"
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image).astype(np.float64) / 257).astype(np.uint8))
    rgb = image.convert("RGB")
    return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR)), kind


def thumbnails(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Images uint8 [count, side, side, 3] reduced to uint8 [count, size, size, 3], antialiased bilinear."""
    resized = (Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images)
    return np.stack([np.asarray(image) for image in resized])


def _image_files(folder: Path) -> list[Path]:
    """All images below a folder, sorted; hidden files are passed over, other files refused."""

    def refuse(error: OSError) -> None:
        raise error

    files = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, n) for n in names if not n.startswith(".") and n.lower() not in _LITTER]
    files.sort()
    for path in files:
        if path.suffix.lower() not in EXTENSIONS:
            raise InputError(f"{path} is not an image ({', '.join(EXTENSIONS)}); move it out of the folder.")
    return files


def _read(root: Path, files: list[Path], size: int, labels: list[int], defects: list[str]) -> Examples:
    images = np.empty((len(files), size, size, 3), np.uint8)
    kinds = []
    for index, path in enumerate(files):
        images[index], kind = read_image(path, size)
        kinds.append(kind)
    paths = [path.relative_to(root).as_posix() for path in files]
    masks = [_mask_of(root, path) for path in files]
    note = f"{len(files)} images ({_count(kinds)}), resized to {size} x {size}"
    return Examples(images, paths, np.array(labels, np.int32), defects, masks, note)


def _mask_of(root: Path, image: Path) -> Path | None:
    """MVTec's naming: test/DEFECT/000.png has the mask ground_truth/DEFECT/000_mask.png."""
    parts = image.relative_to(root).parts
    mask = root.joinpath("ground_truth", *parts[1:]).with_name(f"{image.stem}_mask.png")
    return mask if parts[0] == "test" and mask.is_file() else None


def _count(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(collections.Counter(kinds).items()))
