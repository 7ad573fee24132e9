"""Draws the built-in data sets, demo/NAME: two categories in MVTec AD's layout, with defects and masks.

    python -m cutpaste_tf.images.demo [NAME ...]     draws into demo/NAME; training does this automatically

`fabric` is a texture (woven cloth), `gear` an object (a cast part on a mat). Normal images vary in pose, light, color
and grain; no defect is a pasted patch of the image. The drawing uses only arithmetic that IEEE 754 rounds the same way
everywhere, so every machine gets the same pixels (`demo_drawing.py`).
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cutpaste_tf.errors import InputError
from cutpaste_tf.files import whole_folder
from cutpaste_tf.images.demo_drawing import draw_fabric, draw_gear
from cutpaste_tf.progress import say, track

_CHECKOUT = Path(__file__).resolve().parents[2]
# In the checkout; if installed, in the current folder.
FOLDER = (_CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()) / "demo"
TRAIN, TEST_GOOD, TEST_PER_DEFECT = 150, 40, 16


class Category(NamedTuple):
    """How to draw a category: `draw(rng, defect)` returns RGB in [0, 1] and the defect's mask."""

    draw: Callable[[np.random.Generator, str], tuple[np.ndarray, np.ndarray]]
    defects: tuple[str, ...]


def is_of_kind(data: str) -> bool:
    """Whether `data` is demo/SOMETHING."""
    return data.partition("/")[0] == "demo"


def is_known(data: str) -> bool:
    """Whether `data` is the name of a built-in data set."""
    return is_of_kind(data) and _name(data) in CATEGORIES


def place(data: str) -> Path:
    """The folder of demo/NAME, whether it is drawn or not."""
    return FOLDER / _name(data)


def draw(data: str) -> Path:
    """Draws demo/NAME unless it exists; returns its folder.

    Raises:
        InputError: there is no such set.
    """
    name, folder = _name(data), place(data)
    if name not in CATEGORIES:
        raise InputError(f"--data={data} is not a built-in data set; the built-in data sets are: {_known()}.")
    sources = (Path(__file__), Path(__file__).with_name("demo_drawing.py"))
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = folder / ".drawn_by_sha256"
    if stamp.is_file() and stamp.read_text() == source:
        return folder
    # Missing, or drawn by another version of these files.
    say(f"Drawing the built-in data set demo/{name} ...")
    category = CATEGORIES[name]
    groups = [("train", "good", TRAIN), ("test", "good", TEST_GOOD)]
    groups += [("test", defect, TEST_PER_DEFECT) for defect in category.defects]
    images = [(number, index) for number, (*_, count) in enumerate(groups) for index in range(count)]
    with whole_folder(folder) as partial:
        for number, index in track(images, len(images), "Drawing images", say):
            split, defect, _ = groups[number]
            image, mask = category.draw(np.random.default_rng([number, index]), defect)
            _save(partial / split / defect / f"{index:03d}.png", image)
            if defect != "good":
                _save(partial / "ground_truth" / defect / f"{index:03d}_mask.png", mask.astype(np.float64))
        (partial / stamp.name).write_text(source)
    return folder


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.floor(image * 255 + 0.5).astype(np.uint8)).save(path)


def _name(data: str) -> str:
    return data.rstrip("/").partition("/")[2]


def _known() -> str:
    return ", ".join(f"demo/{name}" for name in CATEGORIES)


CATEGORIES = {
    "fabric": Category(draw_fabric, ("cut", "hole", "loose_thread", "missing_thread", "stain")),
    "gear": Category(draw_gear, ("broken_teeth", "crack", "rust", "scratch", "swarf")),
}


def main() -> int:
    """Draws the categories given on the command line, or all."""
    names = sys.argv[1:]
    unknown = sorted(set(names) - set(CATEGORIES))
    if unknown:
        print(f"error: unknown: {', '.join(unknown)}; the categories are {', '.join(CATEGORIES)}.", file=sys.stderr)
        return 2
    for name in names or CATEGORIES:
        print(draw(f"demo/{name}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
