"""Folders of images -> items to read. There are three layouts; in them, `good` stands for the value of --normal_name.

    CATEGORY/train/good/*                     MVTec AD's: normal images for training
    CATEGORY/test/good/*, test/DEFECT/*       normal and anomalous images to score
    CATEGORY/ground_truth/DEFECT/*            optional masks, see `masks.py`
    CATEGORY/validation/good/*                optional normal images that set the threshold

    FOLDER/good/*, FOLDER/DEFECT/*            a fraction of the normal images is held out for testing
    FOLDER/ground_truth/DEFECT/*

    FOLDER/*                                  all normal for training, unlabeled for testing

Masks may be mixed with the images, see `pairing.py`. Training skips masks, and images whose masks mark a defect. If
every image of an unlabeled folder has a mask, the masks label the images. Folders may be nested and may be links;
hidden files and litter are skipped. `unread.py` lists images that are not read although a user might expect it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folder_checks, folders, names, pairing
from cutpaste_tf.images.pairing import Paired
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL, UNKNOWN, Item
from cutpaste_tf.settings.data import GOOD, DataSettings

TRUTH = "ground_truth"
DEFECT = "defect"  # for images that are labeled only by a mask


class Learnt(NamedTuple):
    """The files of a training folder.

    Attributes:
        folder: the folder.
        images: normal images, including held-out ones.
        masks: files that are masks.
        marked: images whose masks mark a defect; they are not used.
    """

    folder: Path
    images: list[Path]
    masks: list[Path]
    marked: list[Path]


def list_train(
    root: Path, settings: DataSettings = DataSettings(), *, trained: Collection[str] | None = None
) -> list[Item]:
    """The normal training images of a folder.

    Args:
        root: the folder.
        settings: gives the normal folder's name, and the fraction of it to hold out if there is no folder for testing.
        trained: names of the images that a resumed run was trained on, to keep its split.

    Raises:
        InputError: there is no folder, it holds fewer than two normal images, a file is not an image, or a folder is
            named like defects or masks.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give a category folder or a folder of normal images.")
    training = learnt(root, settings)
    files = training.images
    if is_split(root, settings):
        held_out = _held_out(root, files, settings, trained)
        files = [path for path in files if path not in held_out]
    if len(files) < 2:
        left_out = f", not counting {len(training.marked)} whose masks mark a defect" if training.marked else ""
        count = f"{len(files)} image" if len(files) == 1 else f"{len(files)} images"
        raise InputError(
            f"{training.folder} holds {count}{left_out} ({', '.join(folders.EXTENSIONS)}); fitting a density needs at "
            "least 2, and 50 to do it well."
        )
    return [Item(folders.shown(path, root), path, (), NORMAL, GOOD) for path in files]


def learnt(root: Path, settings: DataSettings) -> Learnt:
    """The files of the training folder; raises what `list_train` raises."""
    folder = _train_folder(root, settings.reading.normal_name)
    files = folders.image_files(folder)
    paired = pairing.pair(files, folder)
    folder_checks.refuse_lost_masks(paired.lost, folder)
    folder_checks.refuse_defects(folder, paired.images)
    marked = pairing.marked(paired.masks, settings.reading)
    every = set(paired.images)
    return Learnt(
        folder,
        [path for path in paired.images if path not in marked],
        [path for path in files if path not in every],
        [path for path in paired.images if path in marked],
    )


def _train_folder(root: Path, normal: str) -> Path:
    """The folder of the training images; raises what `list_train` raises."""
    inside = [folder.name for folder in folders.inside(root)]
    if "train" in inside:
        folder_checks.refuse_other_normal(root / "train", normal)
        folder = root / "train" / normal
        if not folder.is_dir():
            existing = ", ".join(path.name for path in folders.inside(root / "train"))
            advice = (
                f"train has the folders: {existing}. If one of them holds these images, give its name as --normal_name."
                if existing
                else f"train has no folders. If its images are normal, give --data={root}/train, and give the test "
                "images as --test_data."
            )
            raise InputError(
                f"{root} has no folder train/{normal}, where the normal training images should be; {advice}"
            )
        return folder
    if "test" in inside or (TRUTH in inside and normal not in inside):
        raise InputError(f"{root} has no folder train/{normal}, where the normal training images should be.")
    folder_checks.refuse_categories(root)
    folder_checks.refuse_other_normal(root, normal)
    return root / normal if normal in inside else root


def validation(root: Path, settings: DataSettings = DataSettings()) -> Path | None:
    """The folder of normal images that set the threshold instead of the training images, if there are at least two."""
    folder = root / "validation" / settings.reading.normal_name
    return folder if (root / "train").is_dir() and folder.is_dir() and folders.count(folder) > 1 else None


def list_test(root: Path, settings: DataSettings = DataSettings(), *, trained: Collection[str] = ()) -> list[Item]:
    """The test images of a category folder, or every image of a plain folder.

    Images of a plain folder are unlabeled unless every image has a mask, possibly empty; then the masks label them.

    Args:
        root: the folder.
        settings: gives the normal folder's name.
        trained: names of training images to skip.

    Raises:
        InputError: there is no folder, there are no images, a file is not an image, or masks are ambiguous.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give a category folder with test/* or a folder of images.")
    normal = settings.reading.normal_name
    test = _labelled_folder(root, normal)
    items = _plain(root, settings) if test is None else labelled(root, test, normal)
    is_labelled = any(item.label != UNKNOWN for item in items)
    items = [item for item in items if not is_labelled or item.path not in trained]
    if not items:
        where = f"The folders in {test} hold no test images ({', '.join(folders.EXTENSIONS)})."
        plain = f"{root} holds no test images ({', '.join(folders.EXTENSIONS)}) and no folder test."
        raise InputError(where if test else plain)
    return items


def labelled(root: Path, test: Path, normal: str) -> list[Item]:
    """The images in the subfolders of a test folder, labeled by subfolder; raises what `list_test` raises."""
    folder_checks.refuse_other_normal(test, normal)
    loose = [path for path in sorted(test.iterdir()) if folders.is_image(path)]
    if loose and not folders.inside(test):
        raise InputError(
            f"{test} holds images but no folders: sort them into {normal}/ and a folder for each defect, or give "
            f"{test} itself as the test images. Then only masks beside the images can label them."
        )
    if loose:
        raise InputError(
            f"{loose[0]} is next to the folders in {test}; move it to {normal}/ or to its defect's folder."
        )
    paired, items = paired_tests(test), []
    for path in paired.images:
        part = path.relative_to(test).parts[0]
        label, defect = (NORMAL, GOOD) if part == normal else (ANOMALOUS, folders.printable(part))
        items.append(Item(folders.shown(path, root), path, paired.masks.get(path, ()), label, defect))
    return items


def _labelled_folder(root: Path, normal: str) -> Path | None:
    """The folder whose subfolders label test images, or None; raises what `list_test` raises."""
    inside = [folder.name for folder in folders.inside(root)]
    if "test" in inside:
        return root / "test"
    if "train" in inside or (TRUTH in inside and normal not in inside):
        raise InputError(f"{root} has no folder test; give a folder that has one, or one that holds only test images.")
    folder_checks.refuse_categories(root)
    folder_checks.refuse_other_normal(root, normal)
    return root if normal in inside else None


def _plain(root: Path, settings: DataSettings) -> list[Item]:
    """The images of a plain folder, labeled if every image has a mask."""
    paired = pairing.pair(folders.image_files(root), root)
    if len(paired.masks) < len(paired.images):
        return [Item(folders.shown(path, root), path, (), UNKNOWN, "") for path in paired.images]
    marked = pairing.marked(paired.masks, settings.reading)
    labels = {path: (ANOMALOUS, DEFECT) if path in marked else (NORMAL, GOOD) for path in paired.images}
    return [Item(folders.shown(path, root), path, paired.masks[path], *labels[path]) for path in paired.images]


def paired_tests(test: Path) -> Paired:
    """The images in the subfolders of a test folder, and their masks, which are among them or in a separate folder."""
    truth = _truth(test)
    inside = [folder for folder in folders.inside(test) if folder != truth]
    files = [path for folder in inside for path in folders.image_files(folder)]
    marks = [path for path in folders.files_below(truth) if path.suffix.lower() in folders.EXTENSIONS] if truth else []
    return pairing.pair(files, test, truth, marks)


def has_masks(root: Path) -> bool:
    """Whether there is any file in the folder of masks, matched or not."""
    truth = _truth(root / "test" if (root / "test").is_dir() else root)
    return bool(truth and folders.count(truth))


def test_folder(root: Path, settings: DataSettings) -> Path | None:
    """The folder whose subfolders label test images, or None."""
    if (root / "test").is_dir():
        return root / "test"
    return root if (root / settings.reading.normal_name).is_dir() else None


def held_out(root: Path, settings: DataSettings, trained: Collection[str]) -> int:
    """Number of normal images that a folder holds out for testing."""
    if not root.is_dir() or not is_split(root, settings):
        return 0
    return sum(folders.shown(path, root) not in trained for path in learnt(root, settings).images)


def _held_out(root: Path, files: list[Path], settings: DataSettings, trained: Collection[str] | None) -> set[Path]:
    """The normal images held out for testing: those the run did not train on, or a seeded random sample."""
    if trained is not None:
        return {path for path in files if folders.shown(path, root) not in trained}
    count = round(settings.test_split * len(files))
    if settings.test_split and len(files) > 2:
        count = min(max(1, count), len(files) - 2)
    order = np.random.default_rng(settings.split_seed).permutation(len(files))
    return {files[index] for index in order[:count]}


def is_split(root: Path, settings: DataSettings) -> bool:
    """Whether a folder has normal images next to other folders of images, and no `train`."""
    inside, normal = {folder.name: folder for folder in folders.inside(root)}, settings.reading.normal_name
    others = [folder for name, folder in inside.items() if name not in (normal, TRUTH) and not names.is_masks(name)]
    return normal in inside and "train" not in inside and any(folders.count(folder) for folder in others)


def _truth(test: Path) -> Path | None:
    """The folder of masks with the same layout as `test`, inside it or next to it."""
    if (test / TRUTH).is_dir():
        return test / TRUTH
    if (test.parent / TRUTH).is_dir():
        return test.parent / TRUTH
    if test.name == "test" or names.is_images(test.name):  # VisA: Data/Masks beside Data/Images
        return next((folder for folder in folders.inside(test.parent) if names.is_masks(folder.name)), None)
    return None
