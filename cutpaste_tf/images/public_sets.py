"""Public data sets whose split does not follow MVTec AD's folders, read as they are unpacked.

A folder is recognized by what else is in it or next to it. MVTec AD and MPDD have MVTec AD's folders. So does MVTec
LOCO, for which this module gives only notes.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import json_files
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, layouts, pairing
from cutpaste_tf.images.layouts import DEFECT
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL, Item
from cutpaste_tf.settings.data import GOOD, DataSettings


class PublicSet(NamedTuple):
    """A category with its official split.

    Attributes:
        train: the normal training images.
        test: normal and anomalous images.
        notes: lines for the user.
    """

    train: list[Item]
    test: list[Item]
    notes: tuple[str, ...] = ()


def of(root: Path, settings: DataSettings) -> PublicSet | None:
    """The public set to which a category folder belongs; None if its folders alone give the split.

    Args:
        root: the category folder.
        settings: give the fraction to hold out from sets without a split, and how masks are read.

    Raises:
        InputError: a file of the split is missing or damaged.
    """
    for read in (_visa, _mvtec_ad_2, _btad, _kolektor_sdd2, _kolektor_sdd, _dagm, _real_iad):
        if (found := read(root, settings)) is not None:
            return found
    return None


def pro_limit(root: Path) -> float:
    """The false positive rate up to which the set's authors integrate the per-region overlap."""
    return 0.05 if (root / "test_public").is_dir() else 0.3


def notes(root: Path) -> list[str]:
    """What the user should know about a set that `of` does not need to read."""
    if (root / "test/logical_anomalies").is_dir():
        measure = "its metric, sPRO, is not computed; AUPRO differs, since it has no saturation thresholds"
        return [f"MVTec LOCO: {measure}."]
    return []


def _items(root: Path, paths: Iterable[Path], label: int, kind: str, masks: Any = None) -> list[Item]:
    masks = masks or {}
    return [Item(folders.shown(path, root), path, tuple(masks.get(path, ())), label, kind) for path in paths]


def _present(path: Path, listed_in: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{listed_in} lists {path}, which is missing; unpack the data set again.")
    return path


def _visa(root: Path, settings: DataSettings) -> PublicSet | None:
    """VisA: split_csv/1cls.csv beside the categories, with object, split, label, image and mask."""
    del settings
    table = root.parent / "split_csv/1cls.csv"
    if not (table.is_file() and (root / "Data").is_dir()):
        return None
    items: dict[str, list[Item]] = {"train": [], "test": []}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get("object") != root.name:
                continue
            try:
                kind = GOOD if row["label"] == "normal" else DEFECT
                mask = root.parent / row["mask"] if row["mask"] else None
                items[row["split"]].append(_listed(root, table, root.parent / row["image"], mask, kind))
            except KeyError as error:
                raise InputError(f"{table} lacks {error}, which VisA's has; unpack the data set again.") from None
    if not items["train"]:
        raise InputError(f"{table} lists no training images for {root.name}.")
    return PublicSet(items["train"], items["test"])


def _mvtec_ad_2(root: Path, settings: DataSettings) -> PublicSet | None:
    """MVTec AD 2: test_public next to train; the private test images have no labels."""
    test = root / "test_public"
    if not (test.is_dir() and (root / "train" / GOOD).is_dir()):
        return None
    lines = ["MVTec AD 2: testing uses test_public; AUPRO is integrated up to .05."]
    private = [folder for folder in folders.inside(root) if folder.name.startswith("test_private")]
    lines += [f"Not read: {folder.name}, whose images have no labels." for folder in private]
    return PublicSet(layouts.list_train(root, settings), layouts.labelled(root, test, GOOD), tuple(lines))


def _btad(root: Path, settings: DataSettings) -> PublicSet | None:
    """BTAD: `ok` and `ko` instead of `good` and kinds of defects."""
    if not all((root / place).is_dir() for place in ("train/ok", "test/ko", "ground_truth/ko")):
        return None
    named = dataclasses.replace(settings, reading=settings.reading.replaced(normal_name="ok"))
    return PublicSet(layouts.list_train(root, named), layouts.list_test(root, named))


def _kolektor_sdd2(root: Path, settings: DataSettings) -> PublicSet | None:
    """KolektorSDD2: images in train and test, each with NAME_GT.png next to it, which is empty for normal images."""
    parts = [root / "train", root / "test"]
    if not all(part.is_dir() and next(part.glob("*_GT.png"), None) for part in parts):
        return None
    (train, _), (normal, anomalous) = (_by_mask(part, settings) for part in parts)
    return PublicSet(
        _items(root, train.images, NORMAL, GOOD),
        _items(root, normal.images, NORMAL, GOOD) + _items(root, anomalous.images, ANOMALOUS, DEFECT, anomalous.masks),
    )


def _kolektor_sdd(root: Path, settings: DataSettings) -> PublicSet | None:
    """KolektorSDD: folders kosNN, one for each item.

    It has no split for training on normal images only, so a part of the items is held out, and training uses none of
    their images.
    """
    items = [folder for folder in folders.inside(root) if folder.name.startswith("kos")] if root.is_dir() else []
    if len(items) < 3 or not next(items[0].glob("Part*_label.bmp"), None):
        return None
    order = np.random.default_rng(settings.split_seed).permutation(len(items))
    count = max(1, round(settings.test_split * len(items))) if settings.test_split else 0
    held_out = {items[index] for index in order[:count]}
    normal, anomalous = _by_mask(root, settings)
    tested = [path for path in normal.images if path.parent in held_out]
    return PublicSet(
        _items(root, [path for path in normal.images if path.parent not in held_out], NORMAL, GOOD),
        _items(root, tested, NORMAL, GOOD) + _items(root, anomalous.images, ANOMALOUS, DEFECT, anomalous.masks),
        (f"KolektorSDD has no split for normal images only: {count} of {len(items)} items are held out.",),
    )


def _dagm(root: Path, settings: DataSettings) -> PublicSet | None:
    """DAGM: Train and Test, each with Label/NAME_label.PNG for its defective images."""
    parts = [root / "Train", root / "Test"]
    if not all((part / "Label").is_dir() for part in parts):
        return None
    del settings
    train, test = (pairing.pair(_files(part), part) for part in parts)
    normal = [path for path in test.images if path not in test.masks]
    anomalous = [path for path in test.images if path in test.masks]
    return PublicSet(
        _items(root, [path for path in train.images if path not in train.masks], NORMAL, GOOD),
        _items(root, normal, NORMAL, GOOD) + _items(root, anomalous, ANOMALOUS, DEFECT, test.masks),
    )


def _real_iad(root: Path, settings: DataSettings) -> PublicSet | None:
    """Real-IAD: realiad_jsons/CATEGORY.json next to the folder for the images' resolution."""
    del settings
    above = root.parent.parent / "realiad_jsons"
    candidates = [folder / f"{root.name}.json" for folder in (above, above / "realiad_jsons")]
    table = next((path for path in candidates if path.is_file()), None)
    if table is None or not (root / "OK").is_dir():
        return None
    try:
        values = json_files.read(table)
        normal = values["meta"]["normal_class"]
        train, test = (
            [
                _listed(
                    root,
                    table,
                    root / row["image_path"],
                    root / row["mask_path"] if row.get("mask_path") else None,
                    GOOD if row["anomaly_class"] == normal else str(row["anomaly_class"]),
                )
                for row in values[part]
            ]
            for part in ("train", "test")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{table} is damaged ({error}); unpack the data set again.") from None
    return PublicSet([item for item in train if item.label == NORMAL], test)


def _listed(root: Path, table: Path, image: Path, mask: Path | None, kind: str) -> Item:
    """An image that a set's table lists; `kind` is GOOD for a normal image, whose mask is not read."""
    is_normal = kind == GOOD
    for path in filter(None, (image, mask)):
        if not path.resolve().is_relative_to(root.resolve()):
            raise InputError(f"{table} lists {path}, which is not in {root}; unpack the data set again.")
    masks = (_present(mask, table),) if mask and not is_normal else ()
    return Item(folders.shown(_present(image, table), root), image, masks, NORMAL if is_normal else ANOMALOUS, kind)


def _files(folder: Path) -> list[Path]:
    return folders.image_files(folder) if folder.is_dir() else []


def _by_mask(folder: Path, settings: DataSettings) -> tuple[pairing.Paired, pairing.Paired]:
    """Normal and anomalous images of a folder in which every image has a mask, which is empty for normal images."""
    paired = pairing.pair(_files(folder), folder)
    marked = pairing.marked(paired.masks, settings.reading)
    normal = [path for path in paired.images if path not in marked]
    return paired._replace(images=normal), paired._replace(images=[path for path in paired.images if path in marked])
