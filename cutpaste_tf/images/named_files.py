"""The files a user wants scored: one file, a folder, a pattern, or names on standard input.

They are listed lazily, so a million files need no more memory than the names in the largest folder. A folder that
cannot be listed becomes an entry with an error.
"""

import glob
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, names, pairing

STANDARD_INPUT = "-"
_MASKS = "ground_truth"
_PARTS = ("train", "test", _MASKS)  # folders that identify a data set, which also has masks
_LONGEST = 240  # bytes of a name derived from a file's name; most systems allow 255


class NamedFile(NamedTuple):
    """A file to score.

    Attributes:
        path: path of the file, or of a folder that cannot be listed.
        place: unique relative path for its results in a folder of results.
        error: why it is not an image; empty if no reason is known.
    """

    path: Path
    place: Path
    error: str = ""


def check(named: str) -> None:
    """Checks that a name matches something.

    Args:
        named: a file, a folder, a pattern such as `photos/*.png`, or `-` for standard input.

    Raises:
        InputError: it does not, or it is the folder of a data set, which also has masks.
    """
    if named == STANDARD_INPUT:
        return
    path = Path(named).expanduser()
    if path.is_dir():
        if parts := [name for name in _PARTS if (path / name).is_dir()]:
            inside = next((path / name for name in ("test", "good") if (path / name).is_dir()), path / parts[0])
            raise InputError(
                f"--images={named} is a data set's folder (it holds {', '.join(parts)}/), which also holds files that "
                f"should not be scored; give a folder of images, such as {inside}."
            )
        if next(folders.files_below(path), None) is None:
            raise InputError(f"--images={named} holds no images ({', '.join(folders.EXTENSIONS)}).")
    elif not path.exists() and next(glob.iglob(str(path), recursive=True), None) is None:
        raise InputError(
            f"--images={named}: there is no such file or folder, and no file matches it as a pattern{_brackets(path)}."
        )


def refuse_inside(place: Path, named: str, flag: str, *, is_folder: bool) -> None:
    """Checks that results are not written where they would be scored too.

    Args:
        place: where the results go.
        named: as in `check`.
        flag: the flag that gives the place.
        is_folder: whether the place is a folder of results rather than a file.

    Raises:
        InputError: they would be.
    """
    path = Path(named).expanduser()
    results = (place, place / "a.heat.png") if is_folder else (place,)
    fits = not path.exists() and any(result.resolve().match(str(path.absolute())) for result in results)
    if named != STANDARD_INPUT and (fits or place.resolve().is_relative_to(path.resolve())):
        raise InputError(
            f"{flag}={place} is inside --images={named}, where it would be scored as well; give another place."
        )


def _brackets(path: Path) -> str:
    """How to escape the brackets in a path if a part of it exists and is not meant as a pattern."""
    existing, escaped = Path(), []
    for part in path.parts:
        existing /= part
        escaped.append(glob.escape(part) if existing.exists() else part)
    better = str(Path(*escaped)) if escaped else ""
    return f"; [ ] have a meaning in patterns: for [ write [[], as in --images='{better}'" if "[[]" in better else ""


def listed(named: str, lines: Iterable[bytes] = (), *, passed_over: list[Path] | None = None) -> Iterator[NamedFile]:
    """The files, sorted by name, or in the order of the lines.

    Args:
        named: as in `check`.
        lines: lines of standard input: one name each, or names separated by zero bytes, as written by `find -print0`.
        passed_over: receives the folders that are skipped: hidden folders, and those that programs leave behind.
    """
    path = Path(named).expanduser()
    if named == STANDARD_INPUT:
        for line in _split(lines):
            if name := line.rstrip(b"\r\n"):
                file = Path(os.fsdecode(name))
                yield NamedFile(file, _place(file))
    elif path.is_dir():
        yield from _below(path, path, (), passed_over)
    elif path.exists():
        yield NamedFile(path, Path(path.name))
    else:
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        every = [Path(name) for name in sorted(glob.iglob(str(path), recursive=True))]
        siblings = _Siblings(every)
        for file in every:
            parts = file.relative_to(root).parts
            if left := next((index for index, part in enumerate(parts, 1) if names.is_litter(part)), 0):
                place = root.joinpath(*parts[:left])
                if passed_over is not None and place.is_dir() and place not in passed_over:
                    passed_over.append(place)
            elif not file.is_dir():
                yield NamedFile(file, _place(file.relative_to(root)), siblings.refusal(file))
            elif "**" not in named:  # `**` already matches the contents of folders
                yield from _below(file, root, (), passed_over)


def _split(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Names, one per line; from the first zero byte on, they are separated by zero bytes instead."""
    rest, is_zero = b"", False
    for line in lines:
        is_zero = is_zero or b"\0" in line
        if is_zero:
            *complete, rest = (rest + line).split(b"\0")
            yield from complete
        else:
            yield line
    yield rest


class _Siblings:
    """Files by folder and name, to recognize masks of other files."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files: dict[tuple[Path, str], list[Path]] = {}
        for path in files:
            if path.suffix.lower() in folders.EXTENSIONS:
                self._files.setdefault((path.parent, path.stem), []).append(path)

    def refusal(self, path: Path) -> str:
        """Why a file is not scored; empty unless it is the mask of another file."""
        stem, _ = names.without_mask_suffix(path.stem)
        others = [
            same for name in (stem, path.stem) for same in self._files.get((path.parent, name), ()) if same != path
        ]
        image = pairing.owner(path, others) if others else None
        return f"{path} is the mask of {image.name}; masks are not scored." if image else ""

    def are_shadowed_by(self, folder: Path) -> bool:
        """Whether a folder holds masks of these files, judging by their names."""
        if names.is_masks(folder.name):
            return True
        if not names.is_perhaps_masks(folder.name):
            return False
        image = next((path for path in sorted(folder.iterdir()) if folders.is_image(path)), None)
        stems = (image.stem, names.without_mask_suffix(image.stem)[0]) if image else ()
        return any((folder.parent, stem) in self._files for stem in stems)


def _below(folder: Path, root: Path, above: tuple[Path, ...], passed_over: list[Path] | None) -> Iterator[NamedFile]:
    try:
        every = list(folders.entries(folder, above, passed_over=passed_over))
    except (InputError, OSError) as error:
        reason = f"{folder} cannot be listed ({error.strerror})." if isinstance(error, OSError) else str(error)
        yield NamedFile(folder, folder.relative_to(root), reason)
        return
    siblings = _Siblings(path for path, is_folder in every if not is_folder)
    for path, is_folder in every:
        place = path.relative_to(root)
        if is_folder and siblings.are_shadowed_by(path):
            yield NamedFile(path, place, f"{path} is a folder of masks; masks are not scored.")
        elif is_folder:
            yield from _below(path, root, (*above, folder.resolve()), passed_over)
        else:
            yield NamedFile(path, place, folders.refusal(path) or siblings.refusal(path))


def _place(path: Path) -> Path:
    """A relative path without `..`."""
    if path.is_absolute() or ".." in path.parts:
        absolute = Path(os.path.abspath(path))
        return absolute.relative_to(absolute.anchor)
    return path


def beside(place: Path, ending: str) -> Path:
    """A name for a result: the file's full name plus an ending, since there may be `a.png` and `a.jpg`."""
    name = f"{place.name}{ending}"
    if len(os.fsencode(name)) > _LONGEST:
        name = f"{hashlib.sha256(os.fsencode(place.name)).hexdigest()[:32]}{ending}"
    return place.with_name(name)
