"""Masks: which file belongs to which image, and which of its pixels are the defect.

A mask is in `ground_truth/DEFECT` and is named like its image, with or without `_mask` or another suffix from `names`.
It may also be a folder with that name, whose files are parts of the mask (MVTec LOCO). Masks may also be among the
images, see `pairing.py`. Painting and labeling programs mark defects in different ways, see `defect`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import names
from cutpaste_tf.images.decoding import opened, refuse_turned
from cutpaste_tf.settings.data import ReadingSettings
from cutpaste_tf.settings.sizes import Size

_LOSSY = ("JPEG", "MPO", "AVIF", "HEIF")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def pair(images: Sequence[Path], masks: Mapping[Path, Path]) -> tuple[dict[Path, tuple[Path, ...]], list[Path]]:
    """Finds the masks of images.

    Args:
        images: relative to their folder, such as `crack/001.png`.
        masks: files -> the path of each as if it were next to its image, such as `crack/001_mask.png`, or in a folder
            named like the image.

    Returns:
        The masks of each image that has any, and the masks that match no image.

    Raises:
        InputError: two images would share a mask, or one image has two masks.
    """
    by_name: dict[Path, list[Path]] = {}
    for image in images:
        by_name.setdefault(image.parent / image.stem, []).append(image)
    by_image: dict[Path, list[tuple[Path, bool]]] = {}
    lost = []
    for mask, place in masks.items():
        fits = owners(place, by_name)
        if not fits:
            lost.append(mask)
            continue
        if len(fits) > 1:
            raise InputError(
                f"The images {fits[0][0]} and {fits[1][0]} would share the mask {place}; give them different names."
            )
        image, is_part = fits[0]
        by_image.setdefault(image, []).append((mask, is_part))
    for image, pairs in by_image.items():
        if len(pairs) > 1 and not all(is_part for _, is_part in pairs):
            first, second = (masks[mask] for mask, _ in pairs[:2])
            raise InputError(f"The image {image} has two masks, {first} and {second}; remove one.")
    return {image: tuple(mask for mask, _ in pairs) for image, pairs in by_image.items()}, lost


def owners(place: Path, by_name: Mapping[Path, Sequence[Path]]) -> list[tuple[Path, bool]]:
    """The images that a mask file may belong to, and whether the file is one of several parts of the mask.

    Args:
        place: the mask's path as if it were next to its image.
        by_name: images by their path without the extension.
    """
    name = place.parent / place.stem
    matches = [(image, False) for image in by_name.get(name, ())]
    stem, is_numbered = names.without_mask_suffix(place.stem)
    if stem:
        matches += [(image, is_numbered) for image in by_name.get(place.parent / stem, ())]
    return matches or [(image, True) for image in by_name.get(place.parent, ())]


def read(
    sources: Sequence[Path | bytes], name: str, image_size: tuple[int, int], size: Size, settings: ReadingSettings
) -> tuple[np.ndarray, float]:
    """Reads the mask of an image.

    Uses nearest-neighbor sampling. If the defect is so thin that nothing is left, every pixel it touches is marked.

    Args:
        sources: files, or their content, whose union is the defect.
        name: the image's name, for messages.
        image_size: required width and height of the mask.
        size: (height, width) to resize to.
        settings: gives max_megapixels, and whether masks are zero on the defect.

    Returns:
        bool [height, width], True on the defect; and the fraction of the original image that is defective.

    Raises:
        InputError: a file is not an image, or its size differs.
    """
    marked = np.zeros(image_size[::-1], bool)
    for source in sources:
        own_name = str(source) if isinstance(source, Path) else f"the mask of {name}"
        with opened(source, own_name, settings.max_megapixels) as image:
            refuse_turned(image, own_name)
            if image.size != image_size:
                actual, expected = ("{} x {}".format(*pair) for pair in (image.size, image_size))
                raise InputError(
                    f"{own_name} has {actual} pixels, but its image {name} has {expected}; they must be equal."
                )
            marked |= defect(image, own_name) ^ settings.invert_masks
    mask, (height, width) = Image.fromarray(marked), size
    nearest = np.asarray(mask.resize((width, height), Image.Resampling.NEAREST))
    if not nearest.any():
        nearest = np.asarray(mask.convert("F").resize((width, height), Image.Resampling.BOX)) > 0
    return np.array(nearest), float(marked.mean())


def defect(image: Image.Image, name: str) -> np.ndarray:
    """Which pixels a mask marks, bool [height, width].

    If transparency varies: pixels that are not fully transparent. With a palette: every index but 0. In JPEG and other
    lossy formats: values of at least half the maximum. Otherwise: every nonzero value, so that labels 1, 2 and 3 all
    count.

    Raises:
        InputError: its mode is not supported.
    """
    if image.mode not in _MODES:
        raise InputError(f"{name} has the color mode {image.mode}, which is not supported; save it as gray.")
    if image.has_transparency_data and not image.mode.startswith("I"):
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() != alpha.max():
            return alpha > 0
    if image.mode in ("P", "PA"):
        return np.asarray(image if image.mode == "P" else image.getchannel("P")) > 0
    # WebP may be lossless or lossy and does not say which; a lossless mask has few values.
    if image.format in _LOSSY or (image.format == "WEBP" and not image.getcolors(16)):
        values = np.asarray(image.convert("L"))
        return values >= max(1.0, values.max() / 2)
    if image.mode in ("LA", "RGBA"):
        image = image.convert(image.mode[:-1])
    values = np.asarray(image)
    return np.any(values != 0, axis=-1) if values.ndim == 3 else values != 0
