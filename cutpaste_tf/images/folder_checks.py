"""Refuses folders whose names contradict how they would be read, before anything is read."""

from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, names

_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def refuse_other_normal(parent: Path, normal: str) -> None:
    """Refuses a folder that is named like normal images, but not as `normal`."""
    for folder in folders.inside(parent):
        name = folder.name
        if name != normal and (name.casefold() == normal.casefold() or names.is_normal(name)):
            raise InputError(
                f"{folder} looks like normal images, but the name of their folder is {normal}: give "
                f"--normal_name={name} if it is, or else another name to the folder."
            )


def refuse_categories(root: Path) -> None:
    """Refuses a folder of several categories, and one whose parts have names that are not recognized."""
    for folder in folders.inside(root):
        if _PARTS.get(folder.name.casefold()):
            raise InputError(
                f"{root} has a folder {folder.name}, which is not a name that is recognized: name it as the data, as "
                f"--data={root}/Train and --test_data={root}/Test, or call it {_PARTS[folder.name.casefold()]}."
            )
        if any(inside.name.casefold() in _PARTS for inside in folders.inside(folder)):
            raise InputError(f"{root} holds categories: try --data={folder}.")


def refuse_defects(folder: Path, files: Sequence[Path]) -> None:
    """Refuses training images in a subfolder whose name says that they are defective, or masks.

    Args:
        folder: of the training images; its own name does not matter.
        files: images below it.
    """
    for path in files:
        for parent in list(path.relative_to(folder).parents)[-2::-1]:
            says = "defective" if names.is_defective(parent.name) else "masks"
            if names.is_defective(parent.name) or names.says_masks(parent.name):
                raise InputError(
                    f"{folder / parent} is by its name a folder of images that are {says}, and all below {folder} "
                    f"would be learnt as normal{_instead(folder / parent)}. Or move it out of {folder}; or, if its "
                    "images are normal, give it another name."
                )


def refuse_lost_masks(lost: Sequence[Path], folder: Path) -> None:
    """Refuses masks below a training folder that match no image."""
    if lost:
        raise InputError(
            f"{lost[0].parent} is by its name a folder of masks, and {len(lost)} of its files match no image of "
            f"{folder}, as {lost[0].name}: move it out of {folder}, or give it another name if its images are normal."
        )


def _instead(folder: Path) -> str:
    """Which folder to give instead, if one next to this one holds normal images."""
    others = [
        sibling
        for sibling in folders.inside(folder.parent)
        if not names.is_defective(sibling.name) and not names.says_masks(sibling.name) and folders.count(sibling)
    ]
    normal = [sibling for sibling in others if names.is_normal(sibling.name)] or others
    if len(normal) != 1:
        return ": name the folder of the normal images"
    return (
        f": to learn from {normal[0].name}/ only, give --data={folder.parent} --normal_name={normal[0].name}, and the "
        f"others are for testing; or --data={normal[0]}"
    )
