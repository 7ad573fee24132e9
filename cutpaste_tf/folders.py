"""Folders of images -> items to read. MVTec AD's layout, or plain folders.

    CATEGORY/train/good/*                     normal images to learn from
    CATEGORY/test/good/*, test/DEFECT/*       normal and anomalous images to score
    CATEGORY/ground_truth/DEFECT/*_mask.png   optional masks, non-zero where the defect is

A folder of images without `train` and `test` is taken as normal images where it is to be learnt
from, and as unlabelled ones where it is to be scored, unless it holds a folder `good`: then it is
read as if it were MVTec's `test`. Folders may be nested; hidden files are passed over.
"""

import os
from pathlib import Path

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import ANOMALOUS, GOOD, NORMAL, UNKNOWN, Item

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_LITTER = {"thumbs.db", "desktop.ini"}  # file managers leave these behind, beside hidden files


def list_train(root: Path) -> list[Item]:
    """The normal training images of a category folder, or all images of a plain folder.

    Raises:
        InputError: no folder, no train/good, fewer than two images, or a file that is no image.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; --data must be a category folder or a folder of normal images.")
    good = root / "train" / GOOD
    if not good.is_dir():
        if any((root / name).is_dir() for name in ("train", "test", "ground_truth", GOOD)):
            raise InputError(f"{root} has no folder train/good, where the normal training images should be.")
        _refuse_categories(root)
        good = root
    files = image_files(good)
    if len(files) < 2:
        raise InputError(f"{good} holds {len(files)} images; at least 2 are needed to fit a density, 50 to do it well.")
    return [Item(path.relative_to(root).as_posix(), path, None, NORMAL, GOOD) for path in files]


def list_test(root: Path) -> list[Item]:
    """The test images of a category folder, or every image of a plain folder as unlabelled.

    Raises:
        InputError: no folder, no images, or a file that is no image.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it must be a category folder with test/*, or hold images.")
    test = root / "test"
    if not test.is_dir():
        if (root / "train").is_dir() or (root / "ground_truth").is_dir():
            raise InputError(f"{root} has no folder test; name a folder that has, or that holds only images to score.")
        _refuse_categories(root)
        if not (root / GOOD).is_dir():
            files = image_files(root)
            if not files:
                raise InputError(f"{root} holds no images ({', '.join(EXTENSIONS)}) and no folder test.")
            return [Item(path.relative_to(root).as_posix(), path, None, UNKNOWN, "") for path in files]
        test = root
    loose = [path for path in test.iterdir() if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")]
    if loose:
        raise InputError(f"{loose[0]} lies beside the folders of {test}; put it in {GOOD}/ or in its defect's folder.")
    items = []
    for folder in sorted(path for path in test.iterdir() if path.is_dir() and not path.name.startswith(".")):
        label = NORMAL if folder.name == GOOD else ANOMALOUS
        for path in image_files(folder):
            items.append(Item(path.relative_to(root).as_posix(), path, _mask_of(test, path), label, folder.name))
    if not items:
        raise InputError(f"{test} holds no images ({', '.join(EXTENSIONS)}) in its folders.")
    return items


def _refuse_categories(root: Path) -> None:
    """A folder of categories was named rather than one of them."""
    categories = sorted({path.parent for name in ("train", "test") for path in root.glob(f"*/{name}")})
    if categories:
        raise InputError(f"{root} holds categories: try --data={categories[0]}.")


def image_files(folder: Path) -> list[Path]:
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


def _mask_of(test: Path, image: Path) -> Path | None:
    """MVTec's naming: test/DEFECT/000.png has the mask ground_truth/DEFECT/000_mask.png."""
    mask = (test.parent / "ground_truth" / image.relative_to(test)).with_name(f"{image.stem}_mask.png")
    return mask if mask.is_file() else None
