"""Data sets larger than memory: time, images per second and peak memory of training and of scoring.

    python -m benchmarks.large_sets --folder=FOLDER [--images=100000] [--tests=100000] [--train=FLAGS] [--tiny]

Draws 256 px JPEGs into FOLDER/set, keeping those that exist; trains for a few steps with `train_main.py` and scores
others with `eval_main.py`, each in a separate process; and writes FOLDER/large_sets.json. Each image takes about 16 kB
on disk, and 197 kB of working data in TMPDIR or /var/tmp. `--tiny` makes everything small.

Memory is the process's, as the system reports it: `resident` includes pages of mapped files, which the system can
reclaim at any time; `anonymous` does not. Linux only.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks import drawn_set, memory
from cutpaste_tf import files
from cutpaste_tf.progress import say

_FOLDER = flags.DEFINE_string("folder", None, "Where to draw and to write.", required=True)
_IMAGES = flags.DEFINE_integer("images", 100_000, "Training images.", lower_bound=2)
_TESTS = flags.DEFINE_integer("tests", 100_000, "Test images, half of them with a defect.", lower_bound=2)
_TRAIN = flags.DEFINE_string("train", "", "More flags of train_main.py, with spaces between them.")
_TINY = flags.DEFINE_bool("tiny", False, "24 and 12 images, two steps at 64 px: to try this script.")

_ROOT = Path(__file__).resolve().parent.parent
_SCHEDULE = ["--stem=imagenet", "--epochs=1", "--steps_per_epoch=4", "--batch_size=6"]
_BASES = 100  # pictures of each kind; the others are these, moved round their own edge and lighter or darker


def main(argv: list[str]) -> None:
    """Draws, trains, scores; prints a line for each process."""
    del argv
    folder = Path(_FOLDER.value).expanduser().resolve()
    images, tests, bases, options = _IMAGES.value, _TESTS.value, _BASES, _TRAIN.value.split()
    if _TINY.value:
        images, tests, bases = 24, 12, 4
        options = ["--image_size=64", "--steps_per_epoch=2", *options]
    place, run = folder / "set", folder / "run"
    began = time.monotonic()
    drawn_set.draw(place, {"train/good": images, "test/good": tests - tests // 2, "test/crack": tests // 2}, bases)
    results: dict[str, Any] = {"images": images, "tests": tests, "drawing_seconds": round(time.monotonic() - began, 1)}
    commands = {
        "train": ["train_main.py", f"--data={place}", f"--output_dir={run}", *_SCHEDULE, *options],
        "evaluate": ["eval_main.py", f"--run_dir={run}"],
    }
    for name, words in commands.items():
        results[name] = memory.measured([sys.executable, str(_ROOT / words[0]), *words[1:]])
        files.write_whole(folder / "large_sets.json", (json.dumps(results, indent=1) + "\n").encode())
        count, result = {"train": images, "evaluate": tests}[name], results[name]
        say(
            f"{name:<10}{count:8d} images {result['seconds']:9.1f} s {count / result['seconds']:8.1f} images/s   "
            f"peak memory: resident {result['peak_resident_mb']} MB, anonymous {result['peak_anonymous_mb']} MB"
        )
        if result["exit_code"]:
            sys.exit(f"error: {name} ended with exit code {result['exit_code']}: {result['lines'][-1:]}")


if __name__ == "__main__":
    app.run(main)
