"""Trains a CutPaste detector on the normal images of one category.

  python train_main.py --data=DATA --output_dir=RUN

DATA is a category folder with train/good (MVTec AD's layout), a folder with good/ beside DEFECT/, a folder of normal
images, demo/NAME for a built-in data set, mvtec_ad/CATEGORY or cifar10/CLASS. RUN receives config.json, train_log.csv,
augmentations.png, tensorboard/ and detector/. The defaults are the paper's; brackets give the section. To resume a run
that was stopped, run the same command again.
"""

from pathlib import Path
from typing import Any

from absl import flags

from cutpaste_tf.cli.device_flags import DEVICES
from cutpaste_tf.cli.flags import config_from_flags, define_config_flags
from cutpaste_tf.cli.main import TFDS_DATA_DIR, required, run_main
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import say
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.presets import CHOOSING, PRESETS, shown
from cutpaste_tf.training import choice, sheet
from cutpaste_tf.training.execution import JIT_COMPILE, Execution
from cutpaste_tf.training.train import train

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the run; created if missing.")
_CHECKPOINT_MINUTES = flags.DEFINE_float("checkpoint_minutes", 5.0, "Minutes between checkpoints.", lower_bound=0.0)
_PRESET = flags.DEFINE_enum(
    "preset",
    "paper",
    list(PRESETS),
    "Flags to set unless they are given. " + " ".join(f"{name}: {shown(name)}." for name in PRESETS),
)
_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "Folder of a run, or a config.json: start from its settings instead of a preset's. Flags override them.",
)
_STEPS_PER_EXECUTION = flags.DEFINE_integer(
    "steps_per_execution",
    1,
    "Number of steps to launch together, for a device that finishes a step before the next one is launched; must "
    "divide --steps_per_epoch.",
    lower_bound=1,
)
_JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile",
    "auto",
    list(JIT_COMPILE),
    "Whether to compile the step with XLA; auto: yes, except with TensorFlow on CPUs.",
)
_SHOW = flags.DEFINE_bool(
    "show_augmentations", False, "Write RUN/proxy_tasks.png with every task's views; train nothing."
)
_CHOOSE = flags.DEFINE_bool(
    "choose",
    None,
    "Choose feature, density and image score by made-up anomalies on held-out normal images; write RUN/choice.csv and "
    "choice.png. If the run trains, choose between the network before and after training, too. On by default with "
    f"--preset={', '.join(CHOOSING)}, unless any setting it chooses is given.",
)
define_config_flags()


def run() -> None:
    """The command."""
    run_main(_main, __doc__)


def _main() -> None:
    if _CONFIG.value and _PRESET.present:
        raise InputError("--config and --preset both name settings; leave out one of them.")
    base = Path(_CONFIG.value).expanduser() if _CONFIG.value else None
    config, output_dir = config_from_flags(_PRESET.value, base), Path(required(_OUTPUT_DIR)).expanduser()
    if base and flags.FLAGS["add_normal"].present:
        config = _with_more_images(config, base)
    if _SHOW.value:
        sheet.show_augmentations(config, output_dir, tfds_data_dir=TFDS_DATA_DIR.value)
        return
    given = [name for name in choice.CHOSEN if flags.FLAGS[name].present]
    if _CHOOSE.value or (_CHOOSE.value is None and _PRESET.value in CHOOSING and not given):
        config = _chosen(config, output_dir, given)
    train(config, output_dir, **_options())


def _options() -> dict[str, Any]:
    """What the flags say about how to train."""
    return {
        "checkpoint_minutes": _CHECKPOINT_MINUTES.value,
        "tfds_data_dir": TFDS_DATA_DIR.value,
        "device_count": DEVICES.value,
        "execution": Execution(_STEPS_PER_EXECUTION.value, _JIT_COMPILE.value),
    }


def _with_more_images(config: Config, base: Path) -> Config:
    """The configuration of a run, or of its config.json, with the images of --add_normal besides those that it has."""
    run, path = (base, base / "config.json") if base.is_dir() else (base.parent, base)
    own = Config.read(path).data.add_normal
    network = config.network.network_of if flags.FLAGS["network_of"].present else str(run)
    return config.replaced(add_normal=(*own, *config.data.add_normal), network_of=network)


def _chosen(config: Config, output_dir: Path, given: list[str]) -> Config:
    """The configuration with the chosen settings; an existing run keeps the choice it made before.

    Args:
        config: from the flags.
        output_dir: the run's folder.
        given: the settings of `choice.CHOSEN` that are given as flags.
    """
    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise InputError(f"{names} cannot be given with --choose, which decides this; omit one or the other.")
    trains = bool(config.resolved().schedule.total_steps) and not config.network.network_of
    if (output_dir / "config.json").is_file():
        read = Config.read(output_dir / "config.json")
        is_fallback = trains and not read.resolved().schedule.total_steps
        kept = (*choice.CHOSEN, "network_of", *(choice.UNTRAINED if is_fallback else ()))
        return config.replaced(**{name: read.flat()[name] for name in kept})
    untrained = config.replaced(**choice.UNTRAINED) if _PRESET.value != "quick" else config
    if not _CHOOSE.value and (reason := choice.reason_against(untrained, TFDS_DATA_DIR.value)):
        say(f"--preset={_PRESET.value} uses {shown(_PRESET.value)}, without a choice: {reason}")
        return config
    defaults = Config.of().flat()
    plain = config.replaced(**{name: defaults[name] for name in choice.CHOSEN})
    if trains:
        return choice.train_and_choose(plain, output_dir, **_options())
    return choice.choose(plain, output_dir, tfds_data_dir=TFDS_DATA_DIR.value)[0]


if __name__ == "__main__":
    run()
