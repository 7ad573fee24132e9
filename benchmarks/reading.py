"""Reading large photographs: images per second, beside Pillow's decoding alone, on the same cores and files.

    python -m benchmarks.reading --folder=FOLDER [--count=200] [--width=4000] [--height=3000] [--rounds=2]

Draws ten JPEGs into FOLDER, unless they exist, and copies each under many names. Three ways to read them are compared:
a plain loop that opens, decodes and resizes one image after the other; `reading.read`, with a thread per core; and, as
a lower bound, decoding alone with a process per core. It then measures JPEG's `draft` mode: its time, and how much its
pixels differ after the same resizing.
"""

import concurrent.futures
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from cutpaste_tf import parallel
from cutpaste_tf.images import reading
from cutpaste_tf.images.reading import NORMAL, Item
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.settings.data import GOOD

_FOLDER = flags.DEFINE_string("folder", None, "Where to draw.", required=True)
_COUNT = flags.DEFINE_integer("count", 200, "Files.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 4000, "Of the photographs, in pixels.", lower_bound=32)
_HEIGHT = flags.DEFINE_integer("height", 3000, "Of the photographs, in pixels.", lower_bound=32)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Rounds; the best of each contestant counts.", lower_bound=1)
_SIDE = 256
_PICTURES = 10


def main(argv: list[str]) -> None:
    """Draws, times the contestants in turn, and prints a table."""
    del argv
    paths = draw(Path(_FOLDER.value).expanduser())
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    items = [Item(path.name, path, (), NORMAL, GOOD) for path in paths]
    single = paths[: max(1, len(paths) // (2 * parallel.cores()))]
    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "plain loop, one core": (lambda: [_plain(path) for path in single], len(single)),
        "reading.read": (lambda: reading.read(items, _SIDE), len(paths)),
        "decoding alone, all cores": (lambda: _decode_all(paths), len(paths)),
        "plain loop with draft, one core": (lambda: [_plain(path, draft=True) for path in single], len(single)),
    }
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(_ROUNDS.value):
        for name, (function, count) in contestants.items():
            began = time.perf_counter()
            function()
            best[name] = max(best[name], count / (time.perf_counter() - began))
    print(f"{len(paths)} JPEGs of {_WIDTH.value} x {_HEIGHT.value}, {megabytes:.1f} MB each; {parallel.cores()} cores")
    for name, rate in best.items():
        ratio = rate / best["decoding alone, all cores"]
        print(f"{name:<34}{rate:8.2f} images/s   {ratio:5.2f} x decoding alone, all cores")
    apart = np.abs(_plain(paths[0]).astype(int) - _plain(paths[0], draft=True))
    print(f"draft: {100 * np.mean(apart > 0):.0f} % of the values differ, by up to {apart.max()} of 255")


def draw(folder: Path) -> list[Path]:
    """Draws what is missing; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.jpg" for index in range(_COUNT.value)]
    for index, path in enumerate(paths):
        if path.is_file():
            continue
        if index >= _PICTURES:
            shutil.copy(paths[index % _PICTURES], path)
            continue
        rng = np.random.default_rng(index)
        size = _WIDTH.value, _HEIGHT.value
        coarse = Image.fromarray(rng.integers(40, 216, (30, 40, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        grain = Image.fromarray(rng.integers(0, 255, (size[1] // 2, size[0] // 2, 3), np.uint8)).resize(size)
        Image.blend(coarse, grain, 0.06).save(path, quality=92)
    return paths


def _plain(path: Path, *, draft: bool = False) -> np.ndarray:
    """What a plain loop does with a file."""
    with Image.open(path) as image:
        if draft:
            image.draft("RGB", (_SIDE, _SIDE))
        return np.asarray(resize(image.convert("RGB"), _SIDE, _SIDE))


def _decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _decode_all(paths: list[Path]) -> None:
    context = concurrent.futures.ProcessPoolExecutor(parallel.cores())
    with context as pool:
        list(pool.map(_decode, paths, chunksize=4))


if __name__ == "__main__":
    app.run(main)
