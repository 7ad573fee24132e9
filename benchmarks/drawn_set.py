"""Sets of any size for the benchmarks: gear wheels, all with different pixels, drawn within minutes."""

import concurrent.futures
import functools
from pathlib import Path

import numpy as np
from PIL import Image

from cutpaste_tf.images import demo, demo_drawing
from cutpaste_tf.progress import say, track


def draw(place: Path, counts: dict[str, int], bases: int) -> None:
    """Draws a category of gear wheels, 256 px JPEGs, all different; keeps existing files.

    Args:
        place: folder of the category.
        counts: number of images by folder, as `train/good`; a folder that is not good/ is named after its defect.
        bases: number of different pictures drawn for each folder.
    """
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for number, (name, count) in enumerate(counts.items()):
            (place / name).mkdir(parents=True, exist_ok=True)
            defect = Path(name).name
            make = functools.partial(_base, number, defect)
            pictures = list(pool.map(make, range(min(bases, count)), chunksize=4))
            starts = range(0, count, 500)
            write = functools.partial(_write, place / name, pictures, number, count)
            for _ in track(pool.map(write, starts), len(starts), f"Drawing {name}, 500 at a time", say):
                pass


def _base(number: int, defect: str, index: int) -> np.ndarray:
    """A picture, uint8 [256, 256, 3]."""
    image, _ = demo.CATEGORIES["gear"].draw(np.random.default_rng([number, index]), defect)
    return np.floor(image * 255 + 0.5).astype(np.uint8)


def _write(folder: Path, pictures: list[np.ndarray], number: int, count: int, start: int) -> None:
    """Writes images start to start + 499."""
    side = demo_drawing.SIZE
    for index in range(start, min(start + 500, count)):
        path = folder / f"{index:06d}.jpg"
        if path.is_file():
            continue
        turn = index // len(pictures)  # each picture's turns are moves of their own, so that no two files are alike
        down, right = divmod(turn * 163 % side**2, side)  # 163 and the number of moves have no common divisor
        light = 0.85 + 0.15 * np.random.default_rng([number, index, 1]).random()
        moved = np.roll(pictures[index % len(pictures)], (down, right), (0, 1))
        Image.fromarray((moved * light).astype(np.uint8)).save(path, quality=80)
