"""What training from scratch gives, step by step: task accuracy, log density of held-out normal images, test AUROC.

    python -m benchmarks.learning_curves --output_dir=CURVES --data=DIR [--seeds=3] [--minutes=120] [train_main's flags]

Runs views that share their image's base augmentation and views that are augmented independently, in turns. A fifth of
the training images is held out, and the density is fitted to the others. `held_out` is the mean log density of the
held-out images minus that of the fitted ones: near 0, the density describes normal images well, whatever the scale of
the features. Test images decide nothing. There are two baselines: the network as initialized, whose batch norm has mean
0 and variance 1, and the same network with batch norm's statistics of the fitted images (a cross). Points lie at steps
0, 8, 16, 32, ...; the accuracy is the mean since the previous point. Repeating the command continues with what is
missing in curves.csv and draws curves.png.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from cutpaste_tf import files
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.cli.flags import config_from_flags, define_config_flags
from cutpaste_tf.detection import loading
from cutpaste_tf.evaluation import metrics
from cutpaste_tf.images import sources
from cutpaste_tf.networks import batch_norm, build
from cutpaste_tf.pictures import drawing
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of curves.csv and curves.png.", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
_MINUTES = flags.DEFINE_float("minutes", 120.0, "A run ends after the point that begins later than this.")
_STATISTICS = "untrained, statistics of the data"
define_config_flags()


def main(argv: list[str]) -> None:
    """Trains, and draws."""
    del argv
    folder = Path(_OUTPUT_DIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "curves.csv"
    rows: list[dict[str, Any]] = []
    if path.is_file():
        rows = [{name: _value(value) for name, value in row.items()} for row in files.read_csv(path)]
    if rows and "baseline" not in rows[0]:
        sys.exit(f"error: {path} is of an earlier version; name another --output_dir.")
    first = config_from_flags("paper").resolved()
    for seed in range(_SEEDS.value):
        for views in ("shared", "independent"):
            config = first.replaced(seed=seed, share_base_augmentation=views == "shared")
            key = {
                "data": config.data.data,
                "view_size": sizes.as_flag(config.view_size),
                "steps": config.schedule.total_steps,
                "precision": config.network.precision,
                "views": views,
                "seed": seed,
            }
            if any(key.items() <= row.items() for row in rows):
                continue
            print(key, flush=True)
            curve = _curve(config)
            rows += [{**key, **point} for point in curve]
            files.write_csv(path, rows)
            _draw(folder / "curves.png", rows)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _curve(config: Config) -> list[dict[str, Any]]:
    """The points of one run."""
    place, size, schedule = config.data.data, config.data.size, config.schedule
    every, tests = sources.read_train(place, size, config.data), sources.read_test(place, size, config.data)
    order = np.random.default_rng(config.seed).permutation(len(every.images))
    held_out, fitted = every.images[np.sort(order[: len(order) // 5])], every.part(np.sort(order[len(order) // 5 :]))
    nets = fitting.initial_networks(config)
    step, seconds, accuracy = 0, 0.0, 1 / len(config.augmentation.views)
    points: list[dict[str, Any]] = []

    def measure(baseline: str) -> None:
        detector = loading.make(nets.feature, config, TrainingData.of(fitted)).fit(fitted.images)
        gap = detector.score(fitted.images).scores.mean() - detector.score(held_out).scores.mean()
        point = {"baseline": baseline, "step": step, "seconds": round(seconds, 1), "accuracy": round(accuracy, 4)}
        auroc = metrics.auroc(tests.labels, detector.score(tests.images).scores)
        points.append({**point, "held_out": round(float(gap), 3), "image_auroc": auroc})
        print(points[-1], flush=True)

    initial = nets.backbone.get_weights()
    batches = batch_norm.batches(fitted.images, config.view_size, schedule.batch_size, config.seed)
    batch_norm.calibrate_batch_norm(nets.feature, batches)
    measure(_STATISTICS)
    nets.backbone.set_weights(initial)
    (phase,) = schedule.phases
    build.set_trainable(nets.backbone, head_only=False, freezes_batch_norm=False)
    fitting.compile_classifier(nets.classifier, schedule, phase)
    for steps in (0, *(2**power for power in range(3, 32))):
        until = min(steps, schedule.total_steps)
        if until > step:
            began = time.monotonic()
            stream: Any = pipeline.stream(
                fitted.images, config.augmentation, batch_size=schedule.batch_size, seed=config.seed, start_step=step
            )
            history: Any = nets.classifier.fit(stream, steps_per_epoch=until - step, shuffle=False, verbose=0)  # pyright: ignore[reportArgumentType]
            step, seconds, accuracy = until, seconds + time.monotonic() - began, history.history["accuracy"][-1]
        measure("" if step else "untrained")
        if step == schedule.total_steps or seconds > 60 * _MINUTES.value:
            break
    return points


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """A row of panels for each set, size of views and schedule, a panel for each measure; a color for shared and for
    independent views, a line for each seed; a cross for the baseline with the data's statistics."""
    measures = {"accuracy": "task accuracy", "held_out": "log density, held out - fitted", "image_auroc": "test AUROC"}
    named = ("data", "view_size", "steps", "precision")
    kinds = [*dict.fromkeys(tuple(row[name] for name in named) for row in rows)]
    with drawing.own_style():
        figure, grid = drawing.subplots(len(kinds), len(measures), figsize=(4 * len(measures), 2.6 * len(kinds) + 0.4))
        for kind, axes in zip(kinds, grid, strict=True):
            data, size, *_ = kind
            drawn = [row for row in rows if tuple(row[name] for name in named) == kind]
            steps = sorted({row["step"] for row in drawn})
            for axis, (name, title) in zip(axes, measures.items(), strict=True):
                for views, color in (("shared", "tab:blue"), ("independent", "tab:orange")):
                    for seed in sorted({row["seed"] for row in drawn}):
                        both = [row for row in drawn if row["views"] == views and row["seed"] == seed]
                        mine = [row for row in both if row["baseline"] != _STATISTICS]
                        crosses = [row[name] for row in both if row["baseline"] == _STATISTICS]
                        axis.plot([0] * len(crosses), crosses, "x", color=color)
                        label = views if seed == 0 else None
                        at = [steps.index(row["step"]) for row in mine]
                        axis.plot(at, [row[name] for row in mine], color=color, label=label)
                axis.set_xticks(range(len(steps)), labels=steps, fontsize=8)
                axis.set_title(f"{Path(data).name}, {size} px: {title}", fontsize=9, parse_math=False)
                if name == "held_out" and min(row[name] for row in drawn) < -20:
                    axis.set_yscale("symlog", linthresh=10)
            axes[0].legend()
        for axis in grid[-1]:
            axis.set_xlabel("step")
        figure.tight_layout()
        drawing.save(figure, path)


if __name__ == "__main__":
    app.run(main)
