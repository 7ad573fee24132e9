"""Draws the built-in data set: two categories in MVTec AD's layout, with defects and masks.

    python -m data.demo [CATEGORY ...]     draws into demo/CATEGORY; train_main.py does it by itself

`fabric` is a texture (woven cloth), `gear` an object (a cast part on a mat). Normal images vary
in pose, light, color and grain; no defect is a pasted patch of the image. The drawing uses only
arithmetic that IEEE 754 rounds alike everywhere, so every machine gets the same pixels
(`demo_drawing.py`).
"""

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import say, track

from .demo_drawing import draw_fabric, draw_gear

_CHECKOUT = Path(__file__).resolve().parent.parent
# In the checkout; installed, in the folder where the command is given.
FOLDER = (_CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()) / "demo"
TRAIN, TEST_GOOD, TEST_PER_DEFECT = 150, 40, 16


class Category(NamedTuple):
    """How to draw a category: `draw(rng, defect)` gives RGB in [0, 1] and the defect's mask."""

    draw: Callable[[np.random.Generator, str], tuple[np.ndarray, np.ndarray]]
    defects: tuple[str, ...]


def locate(data: str) -> str | Path:
    """The folder of a built-in data set, drawn first where it is missing; any other `--data` as it is.

    Raises:
        InputError: nothing is named, or `demo/NAME` with an unknown name.
    """
    if not data:
        raise InputError("--data is missing: a category folder, a folder of normal images, demo/NAME, ...")
    kind, _, name = data.rstrip("/").partition("/")
    if kind != "demo":
        return data
    if name not in CATEGORIES:
        raise InputError(f"--data={data} is not a built-in data set; these are: {_known()}.")
    return draw_category(name)


def draw_category(name: str) -> Path:
    """Draws a category unless it is there; returns its folder."""
    folder = FOLDER / name
    sources = (Path(__file__), Path(__file__).with_name("demo_drawing.py"))
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = folder / ".drawn_by_sha256"
    if stamp.is_file() and stamp.read_text() == source:
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # missing, or drawn by another version of these files
    say(f"Drawing the built-in data set demo/{name} ...")
    partial = FOLDER / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    category = CATEGORIES[name]
    groups = [("train", "good", TRAIN), ("test", "good", TEST_GOOD)]
    groups += [("test", defect, TEST_PER_DEFECT) for defect in category.defects]
    images = [(number, index) for number, (*_, count) in enumerate(groups) for index in range(count)]
    for number, index in track(images, len(images), "Drawing images", say):
        split, defect, _ = groups[number]
        image, mask = category.draw(np.random.default_rng([number, index]), defect)
        _save(partial / split / defect / f"{index:03d}.png", image)
        if defect != "good":
            _save(partial / "ground_truth" / defect / f"{index:03d}_mask.png", mask.astype(np.float64))
    (partial / stamp.name).write_text(source)
    partial.rename(folder)  # whole or not at all
    return folder


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.floor(image * 255 + 0.5).astype(np.uint8)).save(path)


def _known() -> str:
    return ", ".join(f"demo/{name}" for name in CATEGORIES)


CATEGORIES = {
    "fabric": Category(draw_fabric, ("cut", "hole", "loose_thread", "missing_thread", "stain")),
    "gear": Category(draw_gear, ("broken_teeth", "crack", "rust", "scratch", "swarf")),
}


def main(names: list[str]) -> int:
    """Draws the named categories, or all."""
    unknown = sorted(set(names) - set(CATEGORIES))
    if unknown:
        print(f"error: unknown: {', '.join(unknown)}; the categories are {', '.join(CATEGORIES)}.", file=sys.stderr)
        return 2
    for name in names or CATEGORIES:
        print(draw_category(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
