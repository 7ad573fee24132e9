"""What defects among the normal images cost, with and without the training images that look least like the others.

    python -m benchmarks.planted --data=CATEGORY[,CATEGORY] --folder=FOLDER [--train=FLAGS] [--shares=0.01,0.05,0.1]

Moves randomly drawn test defects among the normal training images, trains, and evaluates on the remaining test images.
It then trains again without the images in the first tenth of suspects.csv that are defects, as a person would sort them
out. The baseline is trained on normal images alone and evaluated on the same test images. Writes FOLDER/planted.csv.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

from cutpaste_tf import files
from cutpaste_tf.progress import say

_DATA = flags.DEFINE_list("data", None, "Categories in MVTec AD's layout.", required=True)
_FOLDER = flags.DEFINE_string("folder", None, "Where to work and to write.", required=True)
_TRAIN = flags.DEFINE_string("train", "--preset=quick --nochoose", "Flags of train_main.py.")
_SHARES = flags.DEFINE_list("shares", ["0.01", "0.05", "0.1"], "Defects, as fractions of the number of normal images.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the draw.")

_ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str]) -> None:
    """Measures every category and share."""
    del argv
    folder, rows = Path(_FOLDER.value).expanduser().resolve(), []
    for name in _DATA.value:
        source = Path(name).expanduser().resolve()
        defects = sorted(path for path in source.glob("test/*/*") if path.parent.name != "good")
        order = np.random.default_rng(_SEED.value).permutation(len(defects))
        normal = len([*source.glob("train/good/*")])
        for share in map(float, _SHARES.value):
            planted = [defects[index] for index in order[: max(1, round(share * normal))]]
            place = folder / f"{source.name}_{share:g}"
            found = _suspected(_run(source, place / "planted", planted, planted), planted)
            left = [path for path in planted if path not in found]
            row = {"data": source.name, "normal": normal, "defects": len(planted), "in_first_tenth": len(found)}
            for kind, trained in (("none", []), ("planted", planted), ("sorted", left)):
                row[kind] = _auroc(_run(source, place / kind, planted, trained))
            rows.append(row)
            files.write_csv(folder / "planted.csv", rows)
            say(", ".join(f"{key} {value}" for key, value in row.items()))


def _run(source: Path, place: Path, drawn: list[Path], trained: list[Path]) -> Path:
    """A run trained on the normal images and some defects, evaluated without all the drawn ones."""
    run = place / "run"
    if (run / "eval/metrics.json").is_file():
        return run
    shutil.rmtree(place, ignore_errors=True)
    for path in source.glob("*/*/*"):
        if path in drawn:
            continue
        target = place / "data" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    for path in trained:
        (place / "data/train/good" / f"{path.parent.name}_{path.name}").symlink_to(path)
    masks = [path for path in drawn for path in (place / "data/ground_truth" / path.parent.name).glob(f"{path.stem}*")]
    for mask in masks:
        mask.unlink()
    train = ["train_main.py", f"--data={place}/data", f"--output_dir={run}", *_TRAIN.value.split()]
    for words in (train, ["eval_main.py", f"--run_dir={run}"]):
        subprocess.run([sys.executable, str(_ROOT / words[0]), *words[1:]], check=True, stdout=subprocess.DEVNULL)
    return run


def _suspected(run: Path, planted: list[Path]) -> list[Path]:
    """The planted images in the first tenth of suspects.csv."""
    with (run / "suspects.csv").open() as file:
        names = [Path(row["path"]).name for row in csv.DictReader(file)]
    first = set(names[: round(len(names) / 10)])
    return [path for path in planted if f"{path.parent.name}_{path.name}" in first]


def _auroc(run: Path) -> float:
    return round(json.loads((run / "eval/metrics.json").read_text())["image_auroc"], 2)


if __name__ == "__main__":
    app.run(main)
