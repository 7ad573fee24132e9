"""Sets beyond memory: time, images per second and peak memory of training on many drawn images, and of scoring many.

    python -m benchmarks.large_sets --folder=FOLDER [--images=100000] [--tests=100000] [--train=FLAGS] [--tiny]

Draws 256 px JPEGs into FOLDER/set (what is there already is kept), runs `train_main.py` for a few steps and
`eval_main.py` on others as processes of their own, and writes FOLDER/large_sets.json. Needs room for the files, some
16 kB each, and for 197 kB of working data an image, in TMPDIR or else /var/tmp. `--tiny` makes everything small.

Memory is what the system counts as the process's: `resident` with the pages of files that it has mapped, which the
system can take back at any time, and `anonymous` without them. Linux only.
"""

import concurrent.futures
import functools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image

from cutpaste_tf import files
from cutpaste_tf.progress import say, track
from data import demo, demo_drawing

_FOLDER = flags.DEFINE_string("folder", None, "Where to draw and to write.", required=True)
_IMAGES = flags.DEFINE_integer("images", 100_000, "Training images.", lower_bound=2)
_TESTS = flags.DEFINE_integer("tests", 100_000, "Test images, half of them with a defect.", lower_bound=2)
_TRAIN = flags.DEFINE_string("train", "", "More flags of train_main.py, with spaces between them.")
_TINY = flags.DEFINE_bool("tiny", False, "24 and 12 images, two steps at 64 px: to try this script.")

_ROOT = Path(__file__).resolve().parent.parent
_SCHEDULE = ["--stem=imagenet", "--epochs=1", "--steps_per_epoch=4", "--batch_size=6"]
_BASES = 100  # pictures of each kind; the others are these, moved round their own edge and lighter or darker
_SAMPLE = 0.1  # seconds between two looks at a process's memory


def main(argv: list[str]) -> None:
    """Draws, trains, scores; prints a line for each process."""
    del argv
    folder = Path(_FOLDER.value).expanduser().resolve()
    images, tests, bases, own = _IMAGES.value, _TESTS.value, _BASES, _TRAIN.value.split()
    if _TINY.value:
        images, tests, bases = 24, 12, 4
        own = ["--image_size=64", "--steps_per_epoch=2", *own]
    place, run = folder / "set", folder / "run"
    began = time.monotonic()
    draw(place, {"train/good": images, "test/good": tests - tests // 2, "test/crack": tests // 2}, bases)
    found: dict[str, Any] = {"images": images, "tests": tests, "drawing_seconds": round(time.monotonic() - began, 1)}
    commands = {
        "train": ["train_main.py", f"--data={place}", f"--output_dir={run}", *_SCHEDULE, *own],
        "evaluate": ["eval_main.py", f"--run_dir={run}"],
    }
    for name, words in commands.items():
        found[name] = measured([sys.executable, str(_ROOT / words[0]), *words[1:]])
        files.write_whole(folder / "large_sets.json", (json.dumps(found, indent=1) + "\n").encode())
        count, one = {"train": images, "evaluate": tests}[name], found[name]
        say(
            f"{name:<10}{count:8d} images {one['seconds']:9.1f} s {count / one['seconds']:8.1f} images/s   "
            f"peak memory: resident {one['peak_resident_mb']} MB, anonymous {one['peak_anonymous_mb']} MB"
        )
        if one["exit_code"]:
            sys.exit(f"error: {name} ended with exit code {one['exit_code']}: {one['lines'][-1:]}")


def draw(place: Path, counts: dict[str, int], bases: int) -> None:
    """Draws a category of gear wheels, 256 px JPEGs with pixels of their own; keeps the files that are there.

    Args:
        place: folder of the category.
        counts: number of images by folder, as `train/good`; a folder that is not good/ is named after its defect.
        bases: pictures of each folder that are drawn anew.
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


def measured(command: list[str]) -> dict[str, Any]:
    """Runs a command, and looks at its memory all the while.

    Returns:
        Its exit code, its seconds, its peaks of memory in MB (10^6 bytes), and what it said: second, resident and
        anonymous MB at most since the line before, line.
    """
    began, lines = time.monotonic(), []
    highest, since = {"VmHWM": 0, "VmRSS": 0, "RssAnon": 0}, {"VmRSS": 0, "RssAnon": 0}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        ended = threading.Event()
        watching = threading.Thread(target=_watch, args=(process.pid, (highest, since), ended))
        watching.start()
        assert process.stdout is not None
        for line in process.stdout:
            lines.append([round(time.monotonic() - began, 1), *map(_megabytes, since.values()), line.rstrip()])
            since.update(VmRSS=0, RssAnon=0)
        code = process.wait()
        ended.set()
        watching.join()
    return {
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "peak_resident_mb": _megabytes(highest["VmHWM"]),
        "peak_anonymous_mb": _megabytes(highest["RssAnon"]),
        "lines": lines,
    }


def _megabytes(kib: int) -> int:
    return round(kib * 1024 / 1e6)


def _watch(process: int, peaks: tuple[dict[str, int], ...], ended: threading.Event) -> None:
    """Keeps the highest values, in KiB, of a process's memory until it ends."""
    while not ended.wait(_SAMPLE):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            name, _, value = line.partition(":")
            for one in peaks:
                if name in one:
                    one[name] = max(one[name], int(value.split()[0]))


if __name__ == "__main__":
    app.run(main)
