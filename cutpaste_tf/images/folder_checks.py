"""Refuses folders whose names contradict how they would be read. The checks run before anything is read."""

from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, names

_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def refuse_other_normal(parent: Path, normal: str) -> None:
    """Refuses a folder that is named like normal images but is not called `normal`."""
    for folder in folders.inside(parent):
        name = folder.name
        if name != normal and (name.casefold() == normal.casefold() or names.is_normal(name)):
            raise InputError(
                f"{folder} looks like a folder of normal images, but their folder should be named {normal}: give "
                f"--normal_name={name} if it holds them, or else rename the folder."
            )


def refuse_categories(root: Path) -> None:
    """Refuses a folder of several categories, or one whose train or test folder has an unrecognized name."""
    for folder in folders.inside(root):
        if _PARTS.get(folder.name.casefold()):
            raise InputError(
                f"{root} has a folder {folder.name}, a name that is not recognized: rename it to "
                f"{_PARTS[folder.name.casefold()]}, or give the folders as --data={root}/Train and "
                f"--test_data={root}/Test."
            )
        if any(inside.name.casefold() in _PARTS for inside in folders.inside(folder)):
            raise InputError(f"{root} holds categories: try --data={folder}.")


def refuse_defects(folder: Path, files: Sequence[Path]) -> None:
    """Refuses training images in a subfolder whose name says that they are defective or are masks.

    Args:
        folder: the folder of the training images; its own name does not matter.
        files: images below it.
    """
    for path in files:
        for parent in list(path.relative_to(folder).parents)[-2::-1]:
            says = "defective" if names.is_defective(parent.name) else "masks"
            if names.is_defective(parent.name) or names.says_masks(parent.name):
                raise InputError(
                    f"{folder / parent} has the name of a folder of images that are {says}, but everything below "
                    f"{folder} would be learned as normal{_instead(folder / parent)}. Or move it out of {folder}; or, "
                    "if its images are normal, rename it."
                )


def refuse_lost_masks(lost: Sequence[Path], folder: Path) -> None:
    """Refuses masks below a training folder that match no image."""
    if lost:
        raise InputError(
            f"{lost[0].parent} has the name of a folder of masks, but {len(lost)} of its files, such as "
            f"{lost[0].name}, match no image in {folder}: move it out of {folder}, or rename it if its images are "
            "normal."
        )


def _instead(folder: Path) -> str:
    """Which folder to give instead, if one next to this folder holds normal images."""
    others = [
        sibling
        for sibling in folders.inside(folder.parent)
        if not names.is_defective(sibling.name) and not names.says_masks(sibling.name) and folders.count(sibling)
    ]
    normal = [sibling for sibling in others if names.is_normal(sibling.name)] or others
    if len(normal) != 1:
        return ": give the folder of the normal images"
    return (
        f": to learn only from {normal[0].name}/, give --data={folder.parent} --normal_name={normal[0].name}, so that "
        f"the others are for testing; or give --data={normal[0]}"
    )
