"""Where images come from: a name -> items to read. A folder, or a set of TensorFlow Datasets."""

import os
from collections.abc import Collection
from pathlib import Path

from cutpaste_tf import folders, images, prepared
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import DataSettings, Examples, Item


def list_train(
    data: str | Path,
    settings: DataSettings = DataSettings(),
    *,
    trained: Collection[str] | None = None,
    tfds_data_dir: str = "",
) -> list[Item]:
    """The normal training images.

    Args:
        data: a category folder, a folder of normal images, `mvtec_ad/CATEGORY` or `cifar10/CLASS`.
        settings: how a folder is read.
        trained: see `folders.list_train`.
        tfds_data_dir: where TensorFlow Datasets keeps its sets; empty for its default.

    Raises:
        InputError: what `data` names is missing, too small or damaged.
    """
    if prepared.is_prepared_name(str(data)):
        return prepared.list_train(str(data), prepared.data_dir(tfds_data_dir))
    return folders.list_train(Path(data).expanduser(), settings, trained=trained)


def list_test(
    data: str | Path,
    settings: DataSettings = DataSettings(),
    *,
    trained: Collection[str] = (),
    tfds_data_dir: str = "",
) -> list[Item]:
    """Test images with their labels and masks; as `list_train`, but `trained` as in `folders.list_test`."""
    if prepared.is_prepared_name(str(data)):
        return prepared.list_test(str(data), prepared.data_dir(tfds_data_dir))
    return folders.list_test(Path(data).expanduser(), settings, trained=trained)


def read_train(
    data: str | Path, size: int, settings: DataSettings = DataSettings(), *, tfds_data_dir: str = ""
) -> Examples:
    """Reads what `list_train` lists, resized to size x size pixels."""
    return images.read(list_train(data, settings, tfds_data_dir=tfds_data_dir), size, settings)


def read_test(
    data: str | Path, size: int, settings: DataSettings = DataSettings(), *, tfds_data_dir: str = ""
) -> Examples:
    """Reads what `list_test` lists, resized to size x size pixels."""
    return images.read(list_test(data, settings, tfds_data_dir=tfds_data_dir), size, settings)


def canonical(data: str) -> str:
    """One spelling of `base`, `./base`, `base/` and the absolute path; names of sets stay as they are."""
    plain = data.rstrip("/" + os.sep)
    if plain and Path(data).expanduser().is_dir() and not prepared.is_prepared_name(plain):
        return os.path.abspath(Path(data).expanduser())
    return plain


def is_same(first: str | Path, second: str | Path) -> bool:
    """Whether two names are of the same images: one folder, through links too, or one set."""
    first, second = canonical(str(first)), canonical(str(second))
    return first == second or os.path.realpath(first) == os.path.realpath(second)


def refuse_overlap(train: list[Item], test: list[Item], test_name: str) -> None:
    """Sees whether files are listed both for training and for testing.

    Raises:
        InputError: they are; the first is named.
    """
    learnt = {item.image.resolve() for item in train if isinstance(item.image, Path)}
    shared = [item.image for item in test if isinstance(item.image, Path) and item.image.resolve() in learnt]
    if shared:
        raise InputError(
            f"{len(shared)} of the test images in {test_name} are training images too, as {shared[0]}: they would be "
            "learnt as normal. Name folders apart, or give as --data the folder that holds good/ beside the others: a "
            "part of good/ is then held out."
        )
