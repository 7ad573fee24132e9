"""Data sets prepared by TensorFlow Datasets -> items to read: mvtec_ad/CATEGORY, cifar10/CLASS.

Reading needs only the prepared files, not the code that built them. Pillow decodes the images like those of a folder,
so the same images give the same training.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutpaste_tf.backend import leave_gpus, tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL, Item
from cutpaste_tf.settings.data import GOOD

MVTEC_AD = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw",
    "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def data_dir(folder: str = "") -> Path:
    """Where TensorFlow Datasets keeps prepared sets: the given folder, or TFDS_DATA_DIR, or its default."""
    return Path(folder or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepare_command(name: str, folder: Path) -> str:
    """The command that downloads and prepares one of TensorFlow Datasets' own sets."""
    return f"python -c \"import tensorflow_datasets as tfds; tfds.load('{name}', data_dir='{folder}')\""


def find(folder: Path, name: str, command: str) -> Path:
    """The folder of the newest version of a data set.

    Raises:
        InputError: there is none; the message gives the command that prepares one.
    """
    candidates = [path.parent for path in folder.glob("*/dataset_info.json") if _version(path.parent.name)]
    if not candidates:
        raise InputError(f"{name} is not prepared in {folder}; prepare it with: {command}")
    return max(candidates, key=lambda path: _version(path.name))


def records(folder: Path, split: str, raw: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The examples in one split of a prepared set.

    Args:
        folder: the folder of one version of the set.
        split: the split's name.
        raw: features to return as undecoded bytes.

    Raises:
        InputError: the split or one of its files is missing or damaged.
    """
    leave_gpus()  # to the other backend, before TensorFlow Datasets initializes TensorFlow
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # from protobuf, JSON or TFDS, depending on the file
        raise InputError(f"{folder} is damaged ({_first_line(error)}); delete it and prepare it again.") from None
    if split not in builder.info.splits:
        raise InputError(f"{folder} has no split {split}; delete the folder and prepare it again.")
    for path in builder.info.splits[split].filepaths:
        if not Path(path).is_file():
            raise InputError(f"{path} is missing; delete {folder} and prepare it again.")
    decoders = {name: tfds.decode.SkipDecoding() for name in raw}
    try:
        yield from tfds.as_numpy(builder.as_dataset(split, decoders=decoders))  # pyright: ignore[reportCallIssue]
    except tf.errors.OpError as error:
        raise InputError(f"{folder} is damaged ({_first_line(error)}); delete it and prepare it again.") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def mvtec_ad(name: str, part: str, folder: Path) -> Iterator[Item]:
    """The images of a category of MVTec AD; arguments and errors as for `sources.Source.read`."""
    command = f"python -m data.mvtec_ad --source=ARCHIVE_OR_FOLDER --categories={name} --data_dir={folder}"
    for record in records(find(folder / "mvtec_ad" / name, f"mvtec_ad/{name}", command), part, ("image", "mask")):
        anomalous = record["label"] == 1
        yield Item(
            record["file_name"].decode(),
            record["image"],
            (record["mask"],) if anomalous else (),
            ANOMALOUS if anomalous else NORMAL,
            record["defect"].decode(),
        )


def cifar10(normal: str, part: str, folder: Path) -> Iterator[Item]:
    """One class of CIFAR-10 as normal, the nine others as anomalous (Section 5.4); see `sources.Source.read`."""
    dataset = find(folder / "cifar10", "cifar10", prepare_command("cifar10", folder))
    for record in records(dataset, part, ("image",)):
        name = CIFAR10[record["label"]]
        label, defect = (NORMAL, GOOD) if name == normal else (ANOMALOUS, name)
        yield Item(f"{record['id'].decode()}.png", record["image"], (), label, defect)


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".")) if re.fullmatch(r"\d+\.\d+\.\d+", name) else ()
