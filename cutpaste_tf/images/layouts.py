"""Folders of images -> items to read. Three layouts; `good` stands for --normal_name.

    CATEGORY/train/good/*                     MVTec AD's: normal images to learn from
    CATEGORY/test/good/*, test/DEFECT/*       normal and anomalous images to score
    CATEGORY/ground_truth/DEFECT/*            optional masks, see `masks.py`

    FOLDER/good/*, FOLDER/DEFECT/*            a part of the normal images is held out for testing
    FOLDER/ground_truth/DEFECT/*

    FOLDER/*                                  all normal where they are learnt from, unlabelled where they are scored

Folders may be nested and may be links; hidden files are passed over. What a user would count and is not read is named.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, masks
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL, UNKNOWN, Item
from cutpaste_tf.settings.data import GOOD, DataSettings

_TRUTH = "ground_truth"
# Names that normal images are given, of which a defect with such a name would be a mistake.
_NORMAL_NAMES = {"good", "ok", "okay", "normal"}


def list_train(
    root: Path, settings: DataSettings = DataSettings(), *, trained: Collection[str] | None = None
) -> list[Item]:
    """The normal training images of a folder.

    Args:
        root: the folder.
        settings: gives the normal folder's name, and the part of it that is held out where no other folder is for
            testing.
        trained: names of the images that the run at hand has been trained on: its split is kept.

    Raises:
        InputError: no folder, no normal images, fewer than two, or a file that is no image.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it must be a category folder, or hold normal images.")
    names = [folder.name for folder in folders.inside(root)]
    normal = settings.reading.normal_name
    if "train" in names:
        _check_normal_name(root / "train", normal)
        folder = root / "train" / normal
        if not folder.is_dir():
            found = ", ".join(one.name for one in folders.inside(root / "train")) or "none"
            raise InputError(
                f"{root} has no folder train/{normal}, where the normal training images should be; train has the "
                f"folders: {found}. If one of them is it, give --normal_name."
            )
    elif "test" in names or (_TRUTH in names and normal not in names):
        raise InputError(f"{root} has no folder train/{normal}, where the normal training images should be.")
    else:
        _refuse_categories(root)
        _check_normal_name(root, normal)
        folder = root / normal if normal in names else root
    files = folders.image_files(folder)
    if _is_split(root, normal):
        held_out = _held_out(root, files, settings, trained)
        files = [path for path in files if path not in held_out]
    if len(files) < 2:
        raise InputError(
            f"{folder} holds {len(files)} images; at least 2 are needed to fit a density, 50 to do it well."
        )
    return [Item(folders.shown(path, root), path, (), NORMAL, GOOD) for path in files]


def list_test(root: Path, settings: DataSettings = DataSettings(), *, trained: Collection[str] = ()) -> list[Item]:
    """The test images of a category folder, or every image of a plain folder as unlabelled.

    Args:
        root: the folder.
        settings: gives the normal folder's name.
        trained: names of images to leave out, since they were trained on.

    Raises:
        InputError: no folder, no images, a file that is no image, or masks that cannot be told apart.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it must be a category folder with test/*, or hold images.")
    normal, names = settings.reading.normal_name, [folder.name for folder in folders.inside(root)]
    test = root / "test"
    if "test" not in names:
        if "train" in names or (_TRUTH in names and normal not in names):
            raise InputError(f"{root} has no folder test; name a folder that has, or that holds only images to score.")
        _refuse_categories(root)
        _check_normal_name(root, normal)
        if normal not in names:
            files = folders.image_files(root)
            if not files:
                raise InputError(f"{root} holds no images ({', '.join(folders.EXTENSIONS)}) and no folder test.")
            return [Item(folders.shown(path, root), path, (), UNKNOWN, "") for path in files]
        test = root
    _check_normal_name(test, normal)
    loose = [path for path in sorted(test.iterdir()) if folders.is_image(path)]
    if loose:
        raise InputError(
            f"{loose[0]} lies beside the folders of {test}; put it in {normal}/ or in its defect's folder."
        )
    found = _test_files(test)
    paired, _ = _masks(test, found)
    items = []
    for path in found:
        relative = path.relative_to(test)
        is_normal = relative.parts[0] == normal
        label, defect = (NORMAL, GOOD) if is_normal else (ANOMALOUS, folders.printable(relative.parts[0]))
        its = tuple(_truth(test) / mask for mask in paired.get(relative, ()))
        items.append(Item(folders.shown(path, root), path, its, label, defect))
    items = [item for item in items if item.path not in trained]
    if not items:
        raise InputError(f"{test} holds no images ({', '.join(folders.EXTENSIONS)}) to test in its folders.")
    return items


def unread(root: Path, settings: DataSettings = DataSettings(), *, testing: bool) -> list[str]:
    """What a user would count and is not read, a line each: for a category folder with `train` or `test`.

    Args:
        root: the folder.
        settings: gives the normal folder's name.
        testing: whether the test images are read; else the training images.
    """
    if not root.is_dir():
        return []
    inside = {folder.name: folder for folder in folders.inside(root)}
    known = {"train", "test", _TRUTH}
    left = []
    if known & {"train", "test"} & set(inside):
        left = [folder for name, folder in inside.items() if name not in known]
        left += [path for path in sorted(root.iterdir()) if folders.is_image(path)]
    if not testing and "train" in inside:
        left += [folder for folder in folders.inside(inside["train"]) if folder.name != settings.reading.normal_name]
        left += [path for path in sorted(inside["train"].iterdir()) if folders.is_image(path)]
    counts = {path: folders.count(path) for path in left}
    lines = [f"Not read: {folders.printable(str(path))} ({n} images)." for path, n in counts.items() if n]
    if testing:
        lines += _unread_masks(root, settings)
    return lines


def has_masks(root: Path) -> bool:
    """Whether there is any mask file, matched or not."""
    return bool(folders.count(_truth(_test_folder(root))))


def held_out(root: Path, settings: DataSettings, trained: Collection[str]) -> int:
    """How many normal images beside the trained ones a folder keeps for testing."""
    if not root.is_dir() or not _is_split(root, settings.reading.normal_name):
        return 0
    return sum(
        folders.shown(path, root) not in trained for path in folders.image_files(root / settings.reading.normal_name)
    )


def _held_out(root: Path, files: list[Path], settings: DataSettings, trained: Collection[str] | None) -> set[Path]:
    """The normal images that are kept for testing: those that the run at hand did not train on, or a seeded part."""
    if trained is not None:
        return {path for path in files if folders.shown(path, root) not in trained}
    count = round(settings.test_split * len(files))
    if settings.test_split and len(files) > 2:
        count = min(max(1, count), len(files) - 2)
    order = np.random.default_rng(settings.split_seed).permutation(len(files))
    return {files[index] for index in order[:count]}


def _is_split(root: Path, normal: str) -> bool:
    """Whether a folder holds normal images beside folders of others, and no `train`."""
    inside = {folder.name: folder for folder in folders.inside(root)}
    others = [folder for name, folder in inside.items() if name not in (normal, _TRUTH)]
    return normal in inside and "train" not in inside and any(folders.count(folder) for folder in others)


def _check_normal_name(parent: Path, normal: str) -> None:
    """Refuses a folder whose name says that it holds normal images, but is not the name that does."""
    for folder in folders.inside(parent):
        name = folder.name
        if name != normal and (name.casefold() == normal.casefold() or name.casefold() in _NORMAL_NAMES):
            raise InputError(
                f"{folder} looks like normal images, but the name of their folder is {normal}: give "
                f"--normal_name={name} if it is, or else another name to the folder."
            )


def _refuse_categories(root: Path) -> None:
    """A folder of categories was named rather than one of them."""
    categories = sorted({path.parent for name in ("train", "test") for path in root.glob(f"*/{name}")})
    if categories:
        raise InputError(f"{root} holds categories: try --data={categories[0]}.")


def _test_folder(root: Path) -> Path:
    return root / "test" if (root / "test").is_dir() else root


def _test_files(test: Path) -> list[Path]:
    return [path for folder in folders.inside(test) if folder.name != _TRUTH for path in folders.image_files(folder)]


def _truth(test: Path) -> Path:
    inside = test / _TRUTH
    return inside if inside.is_dir() else test.parent / _TRUTH


def _masks(test: Path, found: list[Path]) -> tuple[dict[Path, tuple[Path, ...]], list[Path]]:
    """Masks by image, and those that match none; relative to their folders."""
    truth = _truth(test)
    if not truth.is_dir():
        return {}, []
    files = [path for path in folders.files_below(truth) if path.suffix.lower() in folders.EXTENSIONS]
    return masks.pair([path.relative_to(test) for path in found], [path.relative_to(truth) for path in files])


def _unread_masks(root: Path, settings: DataSettings) -> list[str]:
    test = _test_folder(root)
    if test == root and not (root / settings.reading.normal_name).is_dir():
        return []
    found = _test_files(test)
    _, lost = _masks(test, found)
    if not lost:
        return []
    example = folders.printable(str(_truth(test) / lost[0]))
    return [
        f"Not read: {len(lost)} masks that match no image, as {example}; a mask is named as its image, with or "
        "without _mask, in the folder of its defect."
    ]
