"""Walks through folders, following links, and converts file names to text."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from PIL import features

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import names

_HEIF = (".heic", ".heif")
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".gif"),
    *((".webp",) if features.check("webp") else ()),
    *((".avif",) if "avif" in features.get_supported() else ()),
    *(_HEIF if importlib.util.find_spec("pillow_heif") else ()),
)


def image_files(folder: Path) -> list[Path]:
    """All images below a folder, sorted; follows links and skips what `sidecars` and `litter` list.

    Raises:
        InputError: there are other files, or `entries` raises it.
    """
    files = [path for path in files_below(folder) if not names.is_sidecar(path.name)]
    for path in files:
        if path.suffix.lower() not in EXTENSIONS:
            raise InputError(f"{no_image(path)}; move it out of the folder{_advice(path)}.")
    return files


def sidecars(folder: Path) -> list[Path]:
    """Files below a folder that describe images instead of being images."""
    return [path for path in files_below(folder) if names.is_sidecar(path.name)]


def litter(folder: Path) -> list[Path]:
    """Folders below a folder that are skipped, such as hidden ones, if they contain images."""
    passed: list[Path] = []
    for _ in files_below(folder, passed_over=passed):
        pass
    return [path for path in passed if count(path)]


def no_image(path: Path) -> str:
    """The start of a message about a file with an unsupported extension."""
    return f"{path} is not an image ({', '.join(EXTENSIONS)})"


def refusal(path: Path) -> str:
    """Why a file is not read, if its name tells; otherwise empty."""
    return "" if path.suffix.lower() in EXTENSIONS else f"{no_image(path)}{_advice(path)}."


def _advice(path: Path) -> str:
    return ", or run `pip install pillow-heif` to read it" if path.suffix.lower() in _HEIF else ""


def inside(parent: Path) -> list[Path]:
    """The folders in a folder, sorted, except hidden folders and litter."""
    return sorted(path for path in parent.iterdir() if path.is_dir() and not names.is_litter(path.name))


def is_image(path: Path) -> bool:
    """Whether a path is a file with a supported extension."""
    return path.suffix.lower() in EXTENSIONS and not names.is_litter(path.name) and path.is_file()


def count(place: Path) -> int:
    """Number of images at or below a path."""
    if not place.is_dir():
        return int(is_image(place))
    return sum(path.suffix.lower() in EXTENSIONS for path in files_below(place))


def files_below(folder: Path, above: tuple[Path, ...] = (), *, passed_over: list[Path] | None = None) -> Iterator[Path]:
    """Files below a folder, following links, sorted by name within each folder; see `entries`."""
    for path, is_folder in entries(folder, above, passed_over=passed_over):
        if is_folder:
            yield from files_below(path, (*above, folder.resolve()), passed_over=passed_over)
        else:
            yield path


def entries(
    folder: Path, above: tuple[Path, ...] = (), *, passed_over: list[Path] | None = None
) -> Iterator[tuple[Path, bool]]:
    """The entries of a folder, sorted by name, and whether each is a folder; hidden files and litter are skipped.

    Args:
        folder: the folder to list.
        above: its parent folders.
        passed_over: receives the folders that are skipped.

    Raises:
        InputError: the folder is one of `above`, so a link leads back to it.
    """
    if folder.resolve() in above:
        raise InputError(f"{folder} is a link to a folder that contains it; remove the link.")
    with os.scandir(folder) as listing:
        every = sorted((entry.name, entry.is_dir()) for entry in listing)
    if passed_over is not None:
        passed_over += [folder / name for name, is_folder in every if is_folder and names.is_litter(name)]
    return ((folder / name, is_folder) for name, is_folder in every if not names.is_litter(name))


def shown(path: Path, root: Path) -> str:
    """A file's name in its data set, as text that is safe to write anywhere."""
    return printable(path.relative_to(root).as_posix())


def printable(name: str) -> str:
    """A file name as text; bytes that are not UTF-8 become `\\\\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
