"""Scores test images with a trained run.

  python eval_main.py --run_dir=RUN [--data=DIR]

DIR holds test/good and test/DEFECT (MVTec AD's layout), or just images, which are then scored
without an AUC; by default the data that the run was trained on. RUN/eval receives metrics.json,
scores.csv, embeddings.npz, histogram.png and, where there is an AUC, roc.png.
"""

from pathlib import Path

from absl import flags

from cutpaste_tf import commands
from cutpaste_tf.config import Config
from data import demo

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder that train_main.py wrote.")
_DATA = flags.DEFINE_string("data", None, "Folder of test images; by default the run's own data.")


def main() -> None:
    run_dir = Path(commands.required(_RUN_DIR)).expanduser()
    data = _DATA.value or Config.read(run_dir / "config.json").data
    commands.evaluate(run_dir, data, demo.locate(data))


if __name__ == "__main__":
    commands.run_main(main)
