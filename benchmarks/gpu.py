"""Benchmarks this project on a GPU in one session with a time limit: speed, memory, and a run's AUC.

    KERAS_BACKEND=jax python -m benchmarks.gpu --output_dir=FOLDER [--data=DIR] [--minutes=25]

Training speed is measured in steps per second, with the pipeline and on one fixed batch without it; `waiting` is the
fraction of a step that the pipeline adds. The networks are ResNet-18 (96 views of 256 px; 64 px crops with both stems)
and EfficientNet-B4 (24 views of 256 px) in float32, TF32 and bfloat16. Dense scoring, exact and fast, is measured in
seconds per image. These measurements take at most 0.6 of the time. The rest goes to a 3-way run with `train_main.py`
and `eval_main.py`, in the fastest of these precisions and for as many whole epochs as fit.

FOLDER/gpu.json and FOLDER/gpu.md are complete at any moment. The same command continues with what is missing. `--tiny`
is for trying out the script on a CPU: about two minutes on two cores.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

from benchmarks.session import Session, affordable
from cutpaste_tf import environment, files
from cutpaste_tf.images import sources
from cutpaste_tf.settings.config import Config

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where to write.", required=True)
_DATA = flags.DEFINE_string("data", "demo/gear", "Category folder, or demo/NAME.")
_MINUTES = flags.DEFINE_float("minutes", 25.0, "The session ends before.", lower_bound=0.1)
_TINY = flags.DEFINE_bool("tiny", False, "A few small cases, to try this script.")
_CASE = flags.DEFINE_string("case", "", "For the processes that this one starts: what to measure.")
_RESULT = flags.DEFINE_string("result", "", "For them: where to write it.")

_ROOT = Path(__file__).resolve().parent.parent
_MEASURING = 0.6  # part of the session
_LIMIT = 240.0  # seconds for one measurement; compiling takes most of them
_EVALUATION = 150.0  # seconds of the session that are kept for the density, and for evaluating the run
# Of matrix products and convolutions; bfloat16 is a setting of the network.
_PRECISIONS = {"float32": "float32", "TF32": "tensorfloat32", "bfloat16": "float32"}


class Case(NamedTuple):
    """What is measured.

    Attributes:
        settings: of the configuration.
        precision: one of _PRECISIONS.
        dense: measure dense scoring, not training.
    """

    settings: dict[str, Any]
    precision: str
    dense: bool = False


def cases(tiny: bool) -> dict[str, Case]:
    """The measurements by name, the most important first."""
    networks: dict[str, dict[str, Any]] = {
        "ResNet-18, 256 px": {},
        "EfficientNet-B4, 256 px": {"backbone": "efficientnet_b4", "batch_size": 24},
        "ResNet-18, 64 px crops, 3 x 3 stem": {"patch_size": 64, "stem": "small"},
        "ResNet-18, 64 px crops, 7 x 7 stem": {"patch_size": 64, "stem": "imagenet"},
    }
    patches: dict[str, Any] = {"patch_size": 64, "stem": "small"}
    precisions = list(_PRECISIONS)
    if tiny:
        small = {"image_size": 32, "batch_size": 6, "stem": "imagenet", "scar_max_length": 20}
        networks = {"ResNet-18, 32 px": small}
        patches = {"image_size": 48, "patch_size": 32, "stem": "imagenet", "stride": 8}
        precisions = ["float32"]
    training = {
        f"{network}, {precision}": Case(settings, precision)
        for network, settings in networks.items()
        for precision in precisions
    }
    scoring = {
        f"dense {how}": Case({**patches, "dense": how}, "float32" if tiny else "TF32", True)
        for how in ("exact", "fast")
    }
    first = dict(list(training.items())[: len(precisions)])
    return {**first, **scoring, **training}


def main(argv: list[str]) -> None:
    """Measures one case, or carries out the session."""
    del argv
    if _CASE.value:
        from benchmarks import measuring  # loads TensorFlow, and would take the device from the processes of the cases

        case = cases(_TINY.value)[_CASE.value]
        measure = measuring.dense_scoring if case.dense else measuring.training
        result = measure(configured(case), tf32=case.precision == "TF32", seconds=0.5 if _TINY.value else 8.0)
        files.write_whole(Path(_RESULT.value), json.dumps(result).encode())
        return
    environment.check()
    folder = Path(_OUTPUT_DIR.value).expanduser().resolve()
    session = Session(folder, "gpu", 60 * _MINUTES.value)
    place = str(sources.folder(_DATA.value))  # drawn, where that is asked for, before the clock counts
    every = cases(_TINY.value)
    command = [sys.executable, "-m", "benchmarks.gpu", f"--output_dir={folder}", f"--data={place}"]
    command += ["--tiny"] if _TINY.value else []
    keep = (1 - _MEASURING) * 60 * _MINUTES.value
    for name, case in every.items():
        result = session.measure(
            name, [*command, f"--case={name}"], limit=_LIMIT, keep=keep, environment=variables(case.precision)
        )
        print(name, json.dumps(result), flush=True)
    _carry_out_run(session, folder, place, every)
    print((folder / "gpu.md").read_text(encoding="utf-8"))


def variables(precision: str) -> dict[str, str]:
    """Environment variables for a process: precision, and the path of this package."""
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(_ROOT), *([before] if before else [])])
    return {"JAX_DEFAULT_MATMUL_PRECISION": _PRECISIONS[precision], "PYTHONPATH": path}


def configured(case: Case) -> Config:
    """The configuration of a case."""
    precision = "mixed_bfloat16" if case.precision == "bfloat16" else "float32"
    return Config.of(**{"data": _DATA.value, "precision": precision, **case.settings}).resolved()


def _carry_out_run(session: Session, folder: Path, place: str, every: dict[str, Case]) -> None:
    """Trains for as many whole epochs as fit, in the fastest arithmetic, and evaluates."""
    network = next(iter(every)).rpartition(", ")[0]
    speeds = {
        precision: session.records[f"{network}, {precision}"]["with_pipeline"]
        for precision in _PRECISIONS
        if session.has(f"{network}, {precision}")
    }
    if not speeds:
        session.record("run", {"skipped": f"{network} was not measured, so how long an epoch takes is not known"})
        return
    earlier = session.records.get("schedule", {})  # of a session before: the run goes on by the same command
    precision = earlier.get("arithmetic") or max(speeds, key=lambda arithmetic: speeds[arithmetic])
    config = configured(every[f"{network}, {precision}"])
    options = ["--head_dims=16,8"] if _TINY.value else []
    options += [f"--{name}={value}" for name, value in every[f"{network}, {precision}"].settings.items()]
    options += [f"--precision={config.network.precision}"]
    steps = 2 if _TINY.value else config.schedule.steps_per_epoch
    run = folder / "run"
    epochs = earlier.get("epochs") or affordable(
        session.left() - _EVALUATION, speeds[precision], steps, most=1 if _TINY.value else config.schedule.epochs
    )
    if not epochs:
        session.record("run", {"skipped": f"no time left for an epoch of {steps} steps"})
        return
    session.record("schedule", {"epochs": epochs, "steps_per_epoch": steps, "arithmetic": precision})
    train = [sys.executable, str(_ROOT / "train_main.py"), f"--data={place}", f"--output_dir={run}", *options]
    train += [f"--epochs={epochs}", f"--steps_per_epoch={steps}", "--checkpoint_minutes=2"]
    session.commands("run", [train, [sys.executable, str(_ROOT / "eval_main.py"), f"--run_dir={run}"]],
                     run / "eval/metrics.json", variables(precision))  # fmt: skip


if __name__ == "__main__":
    app.run(main)
