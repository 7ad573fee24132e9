"""Reproduces tables of the paper, with their error bars.

  python reproduce_main.py --table=1,5 --data_root=MVTEC --output_dir=REPRO [--plan]

MVTEC holds a folder for each category of MVTec AD. REPRO receives runs/, which the tables share, and tableN.md, .csv
and .html for each table: our results beside the paper's, with a verdict. Run the same command again to continue where
it stopped. --plan shows what there is to do and what it would take, and runs nothing.

  python reproduce_main.py --compare_settings

prints the published hyperparameters beside ours, and

  python reproduce_main.py --compare_runs=RUN,RUN

the settings that differ between runs, and their figures.
"""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from absl import flags

from cutpaste_tf.cli.main import TFDS_DATA_DIR, folders_of, required, run_main
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import say
from cutpaste_tf.reproduction import comparison
from cutpaste_tf.reproduction.plan import Request
from cutpaste_tf.reproduction.runner import Commands
from cutpaste_tf.reproduction.tables import CATEGORIES, CIFAR10, SCALES, TABLES, title
from cutpaste_tf.settings.network import PRECISIONS

T = TypeVar("T", bound=int | str)
# Figures the paper repeats for other categories.
_SAME_FIGURE = {"5": "2", **{str(number): "4" for number in range(7, 22)}}
_TABLE = flags.DEFINE_list(
    "table",
    [],
    "Tables to make, such as 1,5 or 1..8, or all for MVTec AD's. " + " ".join(f"{title(table)}." for table in TABLES),
)
_FIGURE = flags.DEFINE_list(
    "figure",
    [],
    "Figures to draw for each category, or all. 2, 5: views of every proxy task. 3: t-SNE of features, also for "
    "TensorBoard's projector. 4, 7..21: 24 images with heat maps. 6: synthetic anomalies.",
)
_DATA_ROOT = flags.DEFINE_string("data_root", None, "Folder that holds the categories.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for runs and tables; created if missing.")
_CATEGORIES = flags.DEFINE_list(
    "categories", list(CATEGORIES), "Show only these categories in the tables; by default the paper's fifteen."
)
_COLUMNS = flags.DEFINE_list("columns", [], "Show only these columns in the tables; by default all.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Number of seeds; the paper has 5.", lower_bound=1)
_SCALE = flags.DEFINE_enum(
    "scale", "paper", list(SCALES), "Schedule: the paper's, one for a night on a CPU, or one for tests."
)
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", PRECISIONS, "Arithmetic of the runs, as in train_main.py; the paper does not specify it."
)
_WEIGHTS = flags.DEFINE_string(
    "weights", "", "File with EfficientNet's ImageNet weights; by default they are downloaded."
)
_JOBS = flags.DEFINE_integer(
    "jobs", 0, "Number of processes at a time; 0: one for each GPU, or one without GPUs.", lower_bound=0
)
_TRIES = flags.DEFINE_integer("tries", 2, "Number of attempts at a run before giving up on it.", lower_bound=1)
_EXECUTOR = flags.DEFINE_enum(
    "executor",
    "local",
    ["local", "ray"],
    "Execute the runs on this machine or on the nodes of a Ray cluster.",
)
_RAY_ADDRESS = flags.DEFINE_string(
    "ray_address", "auto", "HOST:PORT of the Ray cluster; auto: the one this machine belongs to."
)
_GPU = flags.DEFINE_bool("gpu", False, "Refuse to start if there is no GPU, instead of computing on the CPU.")
_COMPARE = flags.DEFINE_bool("compare_settings", False, "Print every setting, with the paper's value beside ours.")
_COMPARE_RUNS = flags.DEFINE_string(
    "compare_runs", "", "Runs, separated by commas: print the settings in which they differ, and their figures."
)
_PLAN = flags.DEFINE_bool(
    "plan",
    False,
    "Show what there is to do and, after measuring for at most a minute, how long it takes; run nothing.",
)


def run() -> None:
    """The command."""
    run_main(_main, __doc__)


def _main() -> None:
    if _COMPARE.value:
        for line in comparison.compared_settings():
            say(line)
        return
    if _COMPARE_RUNS.value:
        for line in comparison.compared_runs(folders_of(_COMPARE_RUNS.value)):
            say(line)
        return
    if not (_TABLE.value or _FIGURE.value):
        raise InputError(f"--table is missing: give {', '.join(map(str, TABLES))} or all; or give --figure.")
    from cutpaste_tf.reproduction import figures
    from cutpaste_tf.reproduction import reproduce as reproducing

    named = _chosen(_TABLE.value, "table", TABLES)
    needs_root = bool(_FIGURE.value) or set(named) != {CIFAR10}
    failures = reproducing.reproduce(
        Request(
            tables=named,
            columns=tuple(_COLUMNS.value),
            categories=tuple(_CATEGORIES.value),
            seeds=_SEEDS.value,
            scale=_SCALE.value,
            data_root=str(Path(required(_DATA_ROOT)).expanduser()) if needs_root else "",
            weights=_WEIGHTS.value,
            output_dir=Path(required(_OUTPUT_DIR)).expanduser(),
            tfds_data_dir=TFDS_DATA_DIR.value,
            precision=_PRECISION.value,
        ),
        Commands(_words("train", "train_main.py"), _words("evaluate", "eval_main.py")),
        drawings=_chosen(_FIGURE.value, "figure", figures.COLUMNS),
        machines=reproducing.Machines(_JOBS.value, _GPU.value, _RAY_ADDRESS.value if _EXECUTOR.value == "ray" else ""),
        tries=_TRIES.value,
        only_plan=_PLAN.value,
    )
    if failures:
        sys.exit(1)


def _words(name: str, main: str) -> tuple[str, ...]:
    """The words that start a command in another process: its main in a checkout, or else the installed module."""
    path = Path(__file__).resolve().parents[2] / main
    return (sys.executable, str(path)) if path.is_file() else (sys.executable, "-m", f"cutpaste_tf.cli.{name}")


def _chosen(texts: list[str], flag: str, choices: Collection[T]) -> tuple[T, ...]:
    """The selected choices; 1..3 is a range, a figure may have several numbers, and `all` means all with numbers."""
    if texts == ["all"]:
        return tuple(entry for entry in choices if isinstance(entry, int))
    by_name = {str(entry): entry for entry in choices}
    if flag == "figure":
        by_name |= {name: by_name[as_drawn] for name, as_drawn in _SAME_FIGURE.items()}
    names = []
    for name in texts:
        first, dots, last = name.partition("..")
        numbers = range(int(first), int(last) + 1) if dots and first.isdigit() and last.isdigit() else ()
        names += [str(number) for number in numbers] or [name]
    if unknown := [name for name in names if name not in by_name]:
        raise InputError(f"--{flag}={','.join(unknown)} is unknown; give some of {', '.join(by_name)}, or all.")
    return tuple(dict.fromkeys(by_name[name] for name in names))


if __name__ == "__main__":
    run()
