"""Masks: which file belongs to which image, and which of its pixels are the defect.

A mask is named as its image, with or without `_mask`, in `ground_truth/DEFECT`; or it is a folder of that name whose
files are parts of it (MVTec LOCO). Painting and labelling programs mark the defect in different ways, see `defect`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cutpaste_tf.errors import InputError
from cutpaste_tf.images.decoding import opened, refuse_turned
from cutpaste_tf.settings.data import ReadingSettings

_SUFFIX = "_mask"
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def pair(images: Sequence[Path], masks: Sequence[Path]) -> tuple[dict[Path, tuple[Path, ...]], list[Path]]:
    """Finds the masks of images.

    Args:
        images: relative to the folder of test images, as `crack/001.png`.
        masks: relative to `ground_truth`.

    Returns:
        The masks of each image that has any, and the masks that match no image.

    Raises:
        InputError: two images would share a mask, or one image has two of them.
    """
    by_name: dict[Path, list[Path]] = {}
    for image in images:
        by_name.setdefault(image.with_suffix(""), []).append(image)
    found: dict[Path, list[tuple[Path, bool]]] = {}
    lost = []
    for mask in masks:
        is_part = False
        owners = _owners(mask.parent / mask.stem, by_name)
        if not owners:
            owners, is_part = _owners(mask.parent, by_name), True
        if not owners:
            lost.append(mask)
            continue
        if len(owners) > 1:
            raise InputError(
                f"The images {owners[0]} and {owners[1]} would share the mask {mask}; give them names of their own."
            )
        found.setdefault(owners[0], []).append((mask, is_part))
    for image, its in found.items():
        if len(its) > 1 and not all(is_part for _, is_part in its):
            raise InputError(f"The image {image} has two masks, {its[0][0]} and {its[1][0]}; remove one.")
    return {image: tuple(mask for mask, _ in its) for image, its in found.items()}, lost


def _owners(name: Path, by_name: dict[Path, list[Path]]) -> list[Path]:
    owners = list(by_name.get(name, []))
    if name.name.endswith(_SUFFIX):
        owners += by_name.get(name.with_name(name.name.removesuffix(_SUFFIX) or " "), [])
    return owners


def read(
    sources: Sequence[Path | bytes], name: str, image_size: tuple[int, int], size: int, settings: ReadingSettings
) -> tuple[np.ndarray, float]:
    """Reads the mask of an image.

    Each pixel is the mask's nearest; of a defect so thin that none is left, every pixel it touches.

    Args:
        sources: its files, or their content; their union is the defect.
        name: of the image, for messages.
        image_size: width and height that the mask must have.
        size: to resize to, in pixels.
        settings: gives max_megapixels, and whether masks are zero on the defect.

    Returns:
        bool [size, size], True on the defect; and the part of the whole picture that is.

    Raises:
        InputError: a file is no image, or of another size.
    """
    whole = np.zeros(image_size[::-1], bool)
    for source in sources:
        own_name = str(source) if isinstance(source, Path) else f"the mask of {name}"
        with opened(source, own_name, settings.max_megapixels) as image:
            refuse_turned(image, own_name)
            if image.size != image_size:
                found, expected = ("{} x {}".format(*pair) for pair in (image.size, image_size))
                raise InputError(
                    f"{own_name} has {found} pixels, but its image {name} has {expected}; they must be alike."
                )
            whole |= defect(image, own_name) ^ settings.invert_masks
    mask = Image.fromarray(whole)
    nearest = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST))
    if not nearest.any():
        nearest = np.asarray(mask.convert("F").resize((size, size), Image.Resampling.BOX)) > 0
    return nearest, float(whole.mean())


def defect(image: Image.Image, name: str) -> np.ndarray:
    """Which pixels a mask marks, bool [height, width].

    Where transparency varies, what is not wholly transparent. Of a palette, every index but 0. Of JPEG, which does
    not keep values, at least half of its own maximum. Else every value but zero, so that labels 1, 2, 3 all count.

    Raises:
        InputError: its mode is not understood.
    """
    if image.mode not in _MODES:
        raise InputError(f"{name} has the color mode {image.mode}, which is not understood; save it as grey.")
    if image.has_transparency_data and not image.mode.startswith("I"):
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() != alpha.max():
            return alpha > 0
    if image.mode in ("P", "PA"):
        return np.asarray(image if image.mode == "P" else image.getchannel("P")) > 0
    if image.format in ("JPEG", "MPO"):
        values = np.asarray(image.convert("L"))
        return values >= max(1.0, values.max() / 2)
    if image.mode in ("LA", "RGBA"):
        image = image.convert(image.mode[:-1])
    values = np.asarray(image)
    return np.any(values != 0, axis=-1) if values.ndim == 3 else values != 0
