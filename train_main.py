"""Trains a CutPaste detector on the normal images of one category.

  python train_main.py --data=DIR --output_dir=RUN

DIR holds train/good (MVTec AD's layout), or is demo/NAME for a built-in data set. RUN receives
config.json, train_log.csv, augmentations.png, tensorboard/ and detector/. The defaults are the
paper's; the same command again resumes a run that was stopped.
"""

from pathlib import Path

from absl import flags

from cutpaste_tf import commands
from data import demo

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the run; made where it is missing.")
_CHECKPOINT_MINUTES = flags.DEFINE_float("checkpoint_minutes", 5.0, "Minutes between checkpoints.", lower_bound=0.0)
commands.define_config_flags()
flags.adopt_module_key_flags(commands)


def main() -> None:
    config = commands.config_from_flags()
    output_dir = Path(commands.required(_OUTPUT_DIR)).expanduser()
    commands.train(config, output_dir, demo.locate(config.data), checkpoint_minutes=_CHECKPOINT_MINUTES.value)


if __name__ == "__main__":
    commands.run_main(main)
