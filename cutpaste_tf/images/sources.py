"""Resolves the name of a data set to items to read: a folder, demo/NAME, or one of the prepared sets in SOURCES."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import demo, folders, layouts, prepared, public_sets, reading
from cutpaste_tf.images.reading import NORMAL, Examples, Item
from cutpaste_tf.settings.data import GOOD, DataSettings
from cutpaste_tf.settings.sizes import Size


class Source(NamedTuple):
    """Data sets named KIND/NAME; a folder with that name takes precedence.

    Attributes:
        names: valid values of NAME.
        read: (name, `train` or `test`, folder where TensorFlow Datasets keeps its sets) -> the images of that part. It
            raises InputError if the set is missing or damaged.
    """

    names: tuple[str, ...]
    read: Callable[[str, str, Path], Iterator[Item]]


SOURCES: dict[str, Source] = {
    "mvtec_ad": Source(prepared.MVTEC_AD, prepared.mvtec_ad),
    "cifar10": Source(prepared.CIFAR10, prepared.cifar10),
}


def is_named(data: str) -> bool:
    """Whether `data` is the name of a built-in set or of a set in SOURCES, rather than a path."""
    return demo.is_known(data) or _is_prepared(data)


def _is_prepared(data: str) -> bool:
    """Whether `data` names a set in SOURCES; an existing folder of images with that name takes precedence."""
    is_folder = Path(data).is_dir() and not list(Path(data).glob("*/dataset_info.json"))
    return data.partition("/")[0] in SOURCES and not is_folder


def folder(data: str | Path) -> Path:
    """The folder of `data`: that of demo/NAME, which is drawn if missing, or else `data` as a path.

    Raises:
        InputError: `data` is empty, or is demo/NAME but there is no such set or folder.
    """
    if not str(data):
        raise InputError("--data is missing; give a category folder, a folder of normal images, demo/NAME, ...")
    path = Path(data).expanduser()
    is_drawn = demo.is_known(str(data)) or (demo.is_of_kind(str(data)) and not path.is_dir())
    return demo.draw(str(data)) if is_drawn else path


def list_train(
    data: str | Path,
    settings: DataSettings = DataSettings(),
    *,
    trained: Collection[str] | None = None,
    tfds_data_dir: str = "",
) -> list[Item]:
    """The normal training images.

    Args:
        data: a folder (see `layouts.py` and `public_sets.py`), demo/NAME, or a set in SOURCES such as
            `mvtec_ad/bottle`.
        settings: how a folder is read.
        trained: see `layouts.list_train`.
        tfds_data_dir: where TensorFlow Datasets keeps its sets; empty for its default.

    Raises:
        InputError: the data are missing, too few or damaged.
    """
    if _is_prepared(str(data)):
        return _items(str(data), "train", tfds_data_dir)
    root = folder(data)
    if known := public_sets.of(root, settings):
        return known.train
    return layouts.list_train(root, settings, trained=trained)


def validation(data: str | Path, settings: DataSettings) -> Path | None:
    """The folder of normal images that set the threshold instead of the training images; None if there is none."""
    return layouts.validation(folder(data), settings)


def list_added(settings: DataSettings) -> list[Item]:
    """The normal images of `add_normal`, each named by its path.

    Raises:
        InputError: a folder is missing, has no normal images, or is given twice; or `layouts.learnt` raises it.
    """
    items: list[Item] = []
    for place in settings.add_normal:
        with named_by(f"--add_normal={place}"):
            root = folder(place)
            if not root.is_dir():
                raise InputError(f"{root} is not a folder; give a folder of normal images.")
            files = layouts.learnt(root, settings).images
            if not files:
                raise InputError(f"{root} holds no normal images ({', '.join(folders.EXTENSIONS)}).")
            paths = {os.path.abspath(path): path for path in files}
            if known := {item.path for item in items} & {*map(folders.printable, paths)}:
                raise InputError(f"{min(known)} was added before; put the new images into a folder of their own.")
            items += [Item(folders.printable(name), path, (), NORMAL, GOOD) for name, path in paths.items()]
    return items


def list_fitted(
    data: str | Path, settings: DataSettings, *, trained: Collection[str] | None = None, tfds_data_dir: str = ""
) -> list[Item]:
    """The images that a run's density is fitted to: what `list_train` lists, then what `list_added` lists."""
    return [*list_train(data, settings, trained=trained, tfds_data_dir=tfds_data_dir), *list_added(settings)]


def list_normal(data: str | Path, settings: DataSettings, tfds_data_dir: str = "") -> list[Item]:
    """All normal images that `list_train` can find, with none held out."""
    return list_train(data, dataclasses.replace(settings, test_split=0.0), tfds_data_dir=tfds_data_dir)


@contextlib.contextmanager
def named_by(flag: str) -> Iterator[None]:
    """Prefixes errors about data that is not the run's with the flag that names it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None


def list_test(
    data: str | Path,
    settings: DataSettings = DataSettings(),
    *,
    trained: Collection[str] = (),
    tfds_data_dir: str = "",
) -> list[Item]:
    """The test images with labels and masks; arguments as in `list_train`, but `trained` as in `layouts.list_test`."""
    if _is_prepared(str(data)):
        return _items(str(data), "test", tfds_data_dir)
    root = folder(data)
    if known := public_sets.of(root, settings):
        return known.test
    return layouts.list_test(root, settings, trained=trained)


def read_train(
    data: str | Path, size: int | Size, settings: DataSettings = DataSettings(), *, tfds_data_dir: str = ""
) -> Examples:
    """Reads what `list_train` lists, resized to (height, width) or to a square."""
    return reading.read(list_train(data, settings, tfds_data_dir=tfds_data_dir), size, settings)


def read_test(
    data: str | Path, size: int | Size, settings: DataSettings = DataSettings(), *, tfds_data_dir: str = ""
) -> Examples:
    """Reads what `list_test` lists, resized to (height, width) or to a square."""
    return reading.read(list_test(data, settings, tfds_data_dir=tfds_data_dir), size, settings)


def canonical(data: str) -> str:
    """The absolute path of a folder written as `base`, `./base` or `base/`; names of sets stay as they are."""
    plain = data.rstrip("/" + os.sep)
    if plain and Path(data).expanduser().is_dir() and not is_named(plain):
        return os.path.abspath(Path(data).expanduser())
    return plain


def is_same(first: str | Path, second: str | Path) -> bool:
    """Whether two names refer to the same images: the same folder, links resolved, or the same set."""
    first, second = canonical(str(first)), canonical(str(second))
    first, second = (demo.place(name) if demo.is_known(name) else name for name in (first, second))
    return os.path.realpath(first) == os.path.realpath(second)


def refuse_overlap(train: list[Item], test: list[Item], test_name: str) -> None:
    """Checks that no file is used for both training and testing.

    Raises:
        InputError: some files are; the message names the first.
    """
    learnt = {item.image.resolve() for item in train if isinstance(item.image, Path)}
    shared = [item.image for item in test if isinstance(item.image, Path) and item.image.resolve() in learnt]
    if shared:
        raise InputError(
            f"{len(shared)} of the test images in {test_name} are also training images, such as {shared[0]}, and would "
            "be learned as normal. Give separate folders, or give as --data the folder that holds good/ beside the "
            "others, so that a part of good/ is held out."
        )


def refuse_copies(train: list[Item], test: list[Item]) -> None:
    """Checks that no training image is a copy of a test image: a file with the same content.

    Raises:
        InputError: some are; the message names the first.
    """
    sizes, known = {_size(item) for item in train}, {_content(item): item.path for item in train}
    same = [
        f"{known[content]} = {item.path}"
        for item in test
        if _size(item) in sizes and (content := _content(item)) in known
    ]
    if same:
        raise InputError(
            f"{len(same)} of {len(train)} images are copies of test images ({', '.join(same[:3])}), whose scores would "
            "be too good; remove them."
        )


def _size(item: Item) -> int:
    return len(item.image) if isinstance(item.image, bytes) else item.image.stat().st_size


def _content(item: Item) -> bytes:
    return hashlib.blake2b(item.image if isinstance(item.image, bytes) else item.image.read_bytes()).digest()


def _items(data: str, part: str, tfds_data_dir: str) -> list[Item]:
    """The images of a set, sorted by name; for training, only the normal ones."""
    kind, _, name = data.rstrip("/").partition("/")
    source = SOURCES[kind]
    if name not in source.names:
        raise InputError(
            f"--data={data} is neither a folder nor a known set; {kind}/NAME has: {', '.join(source.names)}."
        )
    items = source.read(name, part, prepared.data_dir(tfds_data_dir))
    # One at a time, so that no other images stay in memory.
    return sorted((item for item in items if part == "test" or item.label == NORMAL), key=lambda item: item.path)
