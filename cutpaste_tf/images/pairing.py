"""Separates the images of a folder from the masks among them.

A mask may be next to its image, such as `000_mask.png` or `10000_GT.png` (KolektorSDD2). It may also have the same stem
if it has only a few values, such as `000.png` next to `000.jpg`. Or it is in a folder of masks, such as
`Label/0576_label.PNG` for `0576.PNG` (DAGM) or `Masks/Anomaly/000.png` for `Images/Anomaly/000.JPG` (VisA).
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cutpaste_tf import parallel
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import decoding, masks, names
from cutpaste_tf.settings.data import ReadingSettings

_VALUES = 16  # most values that a mask with the same stem as its image may have
_LOSSY, _LOSSLESS = (".jpg", ".jpeg", ".jfif", ".heic"), (".png", ".bmp", ".gif", ".tif", ".tiff")


class Paired(NamedTuple):
    """The files of a folder.

    Attributes:
        images: in their original order.
        masks: the masks of each image that has any.
        lost: masks that match no image.
    """

    images: list[Path]
    masks: dict[Path, tuple[Path, ...]]
    lost: list[Path]


def pair(files: Sequence[Path], folder: Path, truth: Path | None = None, marks: Sequence[Path] = ()) -> Paired:
    """Separates images from masks.

    Args:
        files: below the folder.
        folder: the folder that contains them.
        truth: another folder that contains only masks.
        marks: files below `truth`.

    Raises:
        InputError: two images would share a mask, or one image has two masks.
    """
    within = {path: path.relative_to(folder) for path in files}
    by_stem: dict[Path, list[Path]] = {}
    for path, place in within.items():
        if not any(names.is_masks(part) for part in place.parts[:-1]):
            by_stem.setdefault(place.parent / place.stem, []).append(path)
    beside = {name for place in by_stem for name in place.parts[:-1] if names.is_images(name)}
    places = {path: place for path in files if (place := _place(path, within[path], by_stem, beside))}
    images = [path for path in files if path not in places]
    if truth is not None:
        places |= {path: path.relative_to(truth) for path in marks}
    paired, lost = masks.pair([within[path] for path in images], places)
    return Paired(images, {folder / image: image_masks for image, image_masks in paired.items()}, lost)


def owner(path: Path, siblings: Collection[Path]) -> Path | None:
    """The image, among a file's siblings, whose mask the file is; None if it is not a mask."""
    stem, _ = names.without_mask_suffix(path.stem)
    if stem and (match := next((sibling for sibling in siblings if sibling.stem == stem), None)):
        return match
    if path.suffix.lower() not in _LOSSLESS:
        return None
    photograph = next(
        (sibling for sibling in siblings if sibling.stem == path.stem and sibling.suffix.lower() in _LOSSY), None
    )
    return photograph if photograph and _has_few_values(path) else None


def marked(paired: Mapping[Path, Sequence[Path]], settings: ReadingSettings) -> set[Path]:
    """The images whose masks mark a defect.

    Raises:
        InputError: a mask cannot be read.
    """

    def marks(image: Path) -> bool:
        return any(_marks(mask, mask.stat().st_mtime_ns, settings) for mask in paired[image])

    return {image for image, is_marked in zip(paired, parallel.in_order(marks, paired), strict=True) if is_marked}


def _place(path: Path, place: Path, by_stem: Mapping[Path, list[Path]], beside: Collection[str]) -> Path | None:
    """The path of a mask as if it were next to its image; None for an image.

    Args:
        path: the path of a file.
        place: the same path, relative.
        by_stem: images and the masks next to them, by their relative path without the extension.
        beside: names of folders of images that are next to a folder of masks.
    """
    folders = place.parts[:-1]
    for index, name in enumerate(folders):
        is_masks = names.is_masks(name)
        if is_masks or names.is_perhaps_masks(name):
            before, after = folders[:index], place.parts[index + 1 :]
            options = [Path(*before, *after), *(Path(*before, other, *after) for other in sorted(beside))]
            fits = [option for option in options if masks.owners(option, by_stem)]
            if fits or is_masks:
                return fits[0] if fits else options[0]
    stem, _ = names.without_mask_suffix(place.stem)
    same = by_stem.get(place.parent / place.stem, [])
    is_beside = (stem and place.parent / stem in by_stem) or (len(same) > 1 and owner(path, same) is not None)
    return place if is_beside else None


@functools.lru_cache(1 << 17)
def _marks(path: Path, modified: int, settings: ReadingSettings) -> bool:
    """Whether a mask marks a defect; cached, since a command needs it several times."""
    del modified  # part of the cache key
    with decoding.opened(path, str(path), settings.max_megapixels) as image:
        return bool((masks.defect(image, str(path)) ^ settings.invert_masks).any())


def _has_few_values(path: Path) -> bool:
    try:
        with decoding.opened(path, str(path), max_megapixels=1000) as image:
            return image.mode not in ("I", "F") and not image.mode.startswith("I;") and bool(image.getcolors(_VALUES))
    except InputError:  # reading it will refuse it later
        return False
