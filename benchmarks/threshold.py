"""False alarms and detections at a threshold from normal images alone, over random splits of a run's normal images.

    python -m benchmarks.threshold --run_dir=RUN [--splits=200]

RUN is a complete run of an image model, evaluated with its density. Its normal images, of training and test, are
divided anew each time, as many for training as before; the density is fitted to them, and the threshold is taken
from their scores by densities that do not know them - beside one from their scores by the density that knows them.
"""

from pathlib import Path

import numpy as np
from absl import app, flags

from cutpaste_tf.config.config import Config
from cutpaste_tf.density import densities
from cutpaste_tf.detection.calibration import Calibration

_RUN_DIR = flags.DEFINE_string("run_dir", None, "The run.", required=True)
_SPLITS = flags.DEFINE_integer("splits", 200, "Number of splits.", lower_bound=1)
RATES = (0.01, 0.05, 0.1)


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    folder = Path(_RUN_DIR.value)
    config = Config.read(folder / "config.json")
    with np.load(folder / "eval/embeddings.npz") as arrays:
        train, test, labels = (arrays[name] for name in ("train_features", "test_features", "test_labels"))
    normal, anomalous = np.concatenate([train, test[labels == 0]]), test[labels == 1]
    rates = [rate for rate in RATES if rate * (len(train) + 1) >= 1]
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for split in range(_SPLITS.value):
        order = np.random.default_rng(split).permutation(len(normal))
        fitted, others = normal[order[: len(train)]], normal[order[len(train) :]]
        density = densities.build(config.density).fit(fitted)
        normals = {"held out": -density.held_out(fitted), "in sample": -density.score_samples(fitted)}
        scores = [-density.score_samples(one) for one in (others, anomalous)]
        for name, own in normals.items():
            calibration = Calibration(np.sort(own), np.empty(0))
            for rate in rates:
                alarms, hits = (np.mean(one > calibration.threshold(rate)) for one in scores)
                found.setdefault((name, rate), []).append((float(alarms), float(hits)))
    print(f"{len(train)} training, {len(normal) - len(train)} normal and {len(anomalous)} anomalous test images")
    for (name, rate), values in found.items():
        (alarms, hits), (spread, _) = 100 * np.mean(values, axis=0), 100 * np.std(values, axis=0, ddof=1)
        print(f"{name:<10} rate {rate:4.0%}   false alarms {alarms:5.1f} % +/- {spread:4.1f}   found {hits:5.1f} %")


if __name__ == "__main__":
    app.run(main)
