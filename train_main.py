"""Trains a CutPaste detector on the normal images of one category.

  python train_main.py --data=DATA --output_dir=RUN

DATA is a category folder with train/good (MVTec AD's layout), a folder of normal images, demo/NAME for
a built-in data set, mvtec_ad/CATEGORY or cifar10/CLASS. RUN receives config.json, train_log.csv,
augmentations.png, tensorboard/ and detector/. The defaults are the paper's; the same command again
resumes a run that was stopped.
"""

from pathlib import Path

from absl import flags

from cutpaste_tf import command_line, commands
from data import demo

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the run; made where it is missing.")
_CHECKPOINT_MINUTES = flags.DEFINE_float("checkpoint_minutes", 5.0, "Minutes between checkpoints.", lower_bound=0.0)
_SHOW = flags.DEFINE_bool("show_augmentations", False, "Write RUN/proxy_tasks.png, every task's views; train nothing.")
command_line.define_config_flags()
flags.adopt_module_key_flags(command_line)


def main() -> None:
    config = command_line.config_from_flags()
    output_dir = Path(command_line.required(_OUTPUT_DIR)).expanduser()
    location, tfds_data_dir = demo.locate(config.data), command_line.TFDS_DATA_DIR.value
    if _SHOW.value:
        commands.show_augmentations(config, output_dir, location, tfds_data_dir=tfds_data_dir)
    else:
        commands.train(
            config,
            output_dir,
            location,
            checkpoint_minutes=_CHECKPOINT_MINUTES.value,
            test_location=demo.locate(config.test_data) if config.test_data else "",
            tfds_data_dir=tfds_data_dir,
        )


if __name__ == "__main__":
    command_line.run_main(main)
