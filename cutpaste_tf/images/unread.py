"""Lines about files that are not read as images, or are read as something else, although a user may expect it."""

from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf.images import folders, layouts, names, pairing, public_sets
from cutpaste_tf.settings.data import DataSettings


def lines(root: Path, settings: DataSettings = DataSettings(), *, testing: bool) -> list[str]:
    """What is not read from a folder that `layouts` has listed.

    Args:
        root: the folder; the name of a prepared set gives no lines.
        settings: gives the normal folder's name.
        testing: whether the test images are read rather than the training images.
    """
    if not root.is_dir():
        return []
    if known := public_sets.of(root, settings):
        return list(known.notes)
    inside = {folder.name: folder for folder in folders.inside(root)}
    roles = {"train", "test", layouts.TRUTH}
    others = []
    if roles & {"train", "test"} & set(inside):
        used = layouts.validation(root, settings)
        roles |= {used.parent.name} if used else set()
        others = [folder for name, folder in inside.items() if name not in roles]
        others += [path for path in sorted(root.iterdir()) if folders.is_image(path)]
    if not testing and "train" in inside:
        others += [folder for folder in folders.inside(inside["train"]) if folder.name != settings.reading.normal_name]
        others += [path for path in sorted(inside["train"].iterdir()) if folders.is_image(path)]
    counts = {path: folders.count(path) for path in others}
    texts = [f"Not read: {_shown(path)} ({n} images)." for path, n in counts.items() if n]
    texts += public_sets.notes(root)
    if testing:
        test = layouts.test_folder(root, settings)
        return texts + (_of_tests(test) if test else _of_plain(root, settings)) + _of_all(test or root)
    return texts + _of_training(layouts.learnt(root, settings))


def passed_over(places: Sequence[Path]) -> list[str]:
    """A line about the folders that `folders.litter` found, if there are any."""
    if not places:
        return []
    count, kinds = sum(map(folders.count, places)), sorted({place.name for place in places})
    return [
        f"Skipped: {count} images in {len(places)} folders that a desktop, an archiver or a NAS leaves behind "
        f"({', '.join(map(folders.printable, kinds))}), such as {_shown(places[0])}."
    ]


def _of_training(training: layouts.Learnt) -> list[str]:
    texts = []
    if training.masks:
        texts = [f"Not learned: {len(training.masks)} masks among the images, such as {_shown(training.masks[0])}."]
    if training.marked:
        count = len(training.marked) + len(training.images)
        texts += [
            f"Not learned: {len(training.marked)} of {count} images, whose masks mark a defect, such as "
            f"{_shown(training.marked[0])}. If masks are zero on the defect, give --invert_masks."
        ]
    return texts + _of_all(training.folder)


def _of_tests(test: Path) -> list[str]:
    paired = layouts.paired_tests(test)
    texts = []
    if paired.lost:
        texts = [
            f"Not read: {len(paired.lost)} masks that match no image, such as {_shown(paired.lost[0])}. A mask must be "
            "in its defect's folder and be named like its image, with or without _mask."
        ]
    parts = {path.relative_to(test).parts[0] for path in paired.images}
    texts += [
        f"{_shown(test / part)} is tested as a kind of defect; if it holds masks, none of them is named like an image."
        for part in sorted(parts)
        if names.is_perhaps_masks(part)
    ]
    return texts


def _of_plain(root: Path, settings: DataSettings) -> list[str]:
    files = folders.image_files(root)
    paired = pairing.pair(files, root)
    masks = sorted({mask for image_masks in paired.masks.values() for mask in image_masks} | set(paired.lost))
    if not masks:
        return []
    if len(paired.masks) == len(paired.images):
        marked = len(pairing.marked(paired.masks, settings.reading))
        return [
            f"The masks among the images, such as {_shown(masks[0])}, give the labels: {marked} of "
            f"{len(paired.images)} images are anomalous; the others have empty masks and are normal."
        ]
    without = next(path for path in paired.images if path not in paired.masks)
    return [
        f"Not read: {len(masks)} masks among the images, such as {_shown(masks[0])}. They cannot be labels, since "
        f"{len(paired.images) - len(paired.masks)} of {len(paired.images)} images have none, such as "
        f"{_shown(without)}: put normal images in {settings.reading.normal_name}/ and the others in a folder for their "
        "defect."
    ]


def _of_all(folder: Path) -> list[str]:
    texts = passed_over(folders.litter(folder))
    if sidecars := folders.sidecars(folder):
        texts += [f"Not read: {len(sidecars)} files that are not images, such as {_shown(sidecars[0])}."]
    return texts


def _shown(path: Path) -> str:
    return folders.printable(str(path))
