"""Data sets that TensorFlow Datasets has prepared -> items to read: mvtec_ad/CATEGORY, cifar10/CLASS.

They are read from the prepared files alone, without the code that built them, and decoded by Pillow
like any folder's files: the same images give the same training.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import ANOMALOUS, GOOD, NORMAL, Item

MVTEC_AD = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw",
    "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# What follows the name's slash.
SETS = {"mvtec_ad": MVTEC_AD, "cifar10": CIFAR10}


def is_prepared_name(data: str) -> bool:
    """Whether `data` names a prepared set; an existing folder of images of that name wins."""
    is_folder = Path(data).is_dir() and not list(Path(data).glob("*/dataset_info.json"))
    return data.partition("/")[0] in SETS and not is_folder


def data_dir(given: str = "") -> Path:
    """Where TensorFlow Datasets keeps prepared sets: as given, or TFDS_DATA_DIR, or its default."""
    return Path(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def locate(data: str, folder: Path) -> Path:
    """The folder of a prepared set, of its newest version.

    Args:
        data: `mvtec_ad/CATEGORY` or `cifar10/CLASS`.
        folder: TensorFlow Datasets' data_dir.

    Raises:
        InputError: the name is not known, or the set is not prepared.
    """
    kind, _, name = data.rstrip("/").partition("/")
    if name not in SETS[kind]:
        raise InputError(f"--data={data} is neither a folder nor known; {kind}/NAME has: {', '.join(SETS[kind])}.")
    if kind == "mvtec_ad":
        command = f"python -m data.mvtec_ad --source=ARCHIVE_OR_FOLDER --categories={name} --data_dir={folder}"
        return find(folder / kind / name, data, command)
    return find(folder / kind, kind, prepare_command(kind, folder))


def prepare_command(name: str, folder: Path) -> str:
    """What downloads and prepares one of TensorFlow Datasets' own sets."""
    return f"python -c \"import tensorflow_datasets as tfds; tfds.load('{name}', data_dir='{folder}')\""


def find(folder: Path, name: str, command: str) -> Path:
    """The newest version in the folder of a data set.

    Raises:
        InputError: there is none; the message gives the command that prepares it.
    """
    found = [path.parent for path in folder.glob("*/dataset_info.json") if _version(path.parent.name)]
    if not found:
        raise InputError(f"{name} is not prepared in {folder}; prepare it by: {command}")
    return max(found, key=lambda path: _version(path.name))


def list_train(data: str, folder: Path) -> list[Item]:
    """The normal training images of a prepared set, in the order of their names.

    Raises:
        InputError: as `locate`, or a file of it is missing or damaged.
    """
    return _items(data, folder, "train")


def list_test(data: str, folder: Path) -> list[Item]:
    """The test images of a prepared set, in the order of their names.

    Raises:
        InputError: as `locate`, or a file of it is missing or damaged.
    """
    return _items(data, folder, "test")


def records(folder: Path, split: str, raw: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The examples of a prepared set's split.

    Args:
        folder: of one version of the set.
        split: its name.
        raw: features to give as the bytes of their files, not decoded.

    Raises:
        InputError: the split or a file of it is missing or damaged.
    """
    import tensorflow_datasets as tfds

    from cutpaste_tf.backend import tf  # first, so that it leaves the GPUs to another backend

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # of protobuf, JSON or TFDS, whichever file it is
        raise InputError(f"{folder} is damaged ({_first_line(error)}); delete it and prepare it again.") from None
    if split not in builder.info.splits:
        raise InputError(f"{folder} has no split {split}; delete the folder and prepare it again.")
    for path in builder.info.splits[split].filepaths:
        if not Path(path).is_file():
            raise InputError(f"{path} is missing; delete {folder} and prepare it again.")
    decoders = {name: tfds.decode.SkipDecoding() for name in raw}
    try:
        yield from tfds.as_numpy(builder.as_dataset(split, decoders=decoders))
    except tf.errors.OpError as error:
        raise InputError(f"{folder} is damaged ({_first_line(error)}); delete it and prepare it again.") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _items(data: str, folder: Path, split: str) -> list[Item]:
    kind, _, name = data.rstrip("/").partition("/")
    reader = {"mvtec_ad": _mvtec_ad, "cifar10": _cifar10}[kind]
    found = reader(locate(data, folder), split, name)
    # One by one, so that images not asked for are not held.
    return sorted((item for item in found if split == "test" or item.label == NORMAL), key=lambda item: item.path)


def _mvtec_ad(folder: Path, split: str, _: str) -> Iterator[Item]:
    for record in records(folder, split, ("image", "mask")):
        anomalous = record["label"] == 1
        yield Item(
            record["file_name"].decode(),
            record["image"],
            (record["mask"],) if anomalous else (),
            ANOMALOUS if anomalous else NORMAL,
            record["defect"].decode(),
        )


def _cifar10(folder: Path, split: str, normal: str) -> Iterator[Item]:
    """One class is normal, the nine others are anomalous (Section 5.4)."""
    for record in records(folder, split, ("image",)):
        name = CIFAR10[record["label"]]
        label, defect = (NORMAL, GOOD) if name == normal else (ANOMALOUS, name)
        yield Item(f"{record['id'].decode()}.png", record["image"], (), label, defect)


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".")) if re.fullmatch(r"\d+\.\d+\.\d+", name) else ()
