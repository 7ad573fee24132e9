"""Walking through folders: files below them, links followed; and file names as text."""

import os
from collections.abc import Iterator
from pathlib import Path

from cutpaste_tf.errors import InputError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_LITTER = {"thumbs.db", "desktop.ini"}  # file managers leave these behind, beside hidden files


def image_files(folder: Path) -> list[Path]:
    """All images below a folder, sorted; links are followed, hidden files passed over, other files refused."""
    files = list(files_below(folder))
    for path in files:
        if path.suffix.lower() not in EXTENSIONS:
            raise InputError(f"{path} is not an image ({', '.join(EXTENSIONS)}); move it out of the folder.")
    return files


def inside(parent: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_image(path: Path) -> bool:
    """Whether a path is a file of an extension that is read."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def count(place: Path) -> int:
    """Images at or below a place."""
    if not place.is_dir():
        return int(is_image(place))
    return sum(path.suffix.lower() in EXTENSIONS for path in files_below(place))


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Files below a folder, through links too, in the order of their names, folder by folder; raises as `entries`."""
    for path, is_folder in entries(folder, above):
        if is_folder:
            yield from files_below(path, (*above, folder.resolve()))
        else:
            yield path


def entries(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[Path, bool]]:
    """What is in a folder, in the order of the names, and whether it is a folder; without hidden files and litter.

    Raises:
        InputError: the folder is one of those `above` it: a link leads back.
    """
    if folder.resolve() in above:
        raise InputError(f"{folder} is a link to a folder that it lies in; remove it.")
    with os.scandir(folder) as found:
        every = sorted((entry.name, entry.is_dir()) for entry in found if not _is_passed_over(entry.name))
    return ((folder / name, is_folder) for name, is_folder in every)


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def shown(path: Path, root: Path) -> str:
    """A file's name in its data set, as text that can be written anywhere."""
    return printable(path.relative_to(root).as_posix())


def printable(name: str) -> str:
    """A file name as text; bytes of it that are not UTF-8 become `\\\\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
