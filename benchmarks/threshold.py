"""False alarms and detections at a threshold from normal images alone, over random splits of a run's normal images.

    python -m benchmarks.threshold --run_dir=RUN [--splits=200]

RUN is a complete run of a data set with anomalous test images. Its normal images, from training and test together, are
split anew each time, with as many for training as before. The density is fitted to the training part, and the
threshold is set by held-out scores of the same images. For comparison, a second threshold is set by scores from the
density that was fitted to them. The first row of each is the run's own split. A trained network has seen the run's
training images in every split.
"""

from typing import NamedTuple

import numpy as np
from absl import app, flags

from cutpaste_tf.density import densities, patch_density
from cutpaste_tf.detection import calibration, loading
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.detection.image_detector import ImageDetector
from cutpaste_tf.detection.patch_detector import PatchDetector
from cutpaste_tf.images import reading, sources

_RUN_DIR = flags.DEFINE_string("run_dir", None, "The run.", required=True)
_SPLITS = flags.DEFINE_integer("splits", 200, "Number of splits.", lower_bound=2)
RATES = (0.01, 0.05, 0.1)


class _Scores(NamedTuple):
    """Of normal images by densities that do not know them and by the one that does, and of others; float64 [count]."""

    held_out: np.ndarray
    in_sample: np.ndarray
    normal: np.ndarray
    anomalous: np.ndarray


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    detector = loading.load(_RUN_DIR.value)
    assert isinstance(detector, ImageDetector | PatchDetector)
    config, of_kind = detector.config, _of_patches if isinstance(detector, PatchDetector) else _of_images
    train, _ = _features(detector, sources.list_train(config.data.data, detector.how_read))
    test, labels = _features(detector, sources.list_test(config.data.data, detector.how_read))
    normal, anomalous = np.concatenate([train, test[labels == 0]]), test[labels == 1]
    print(f"{len(train)} training, {len(normal) - len(train)} normal and {len(anomalous)} anomalous test images")
    orders = [np.random.default_rng(split).permutation(len(normal)) for split in range(_SPLITS.value)]
    all_scores = []
    for order in [np.arange(len(normal)), *orders]:
        fitted, others = normal[order[: len(train)]], normal[order[len(train) :]]
        all_scores.append(of_kind(detector, fitted, others, anomalous))
    for name in ("held_out", "in_sample"):
        for rate in RATES:
            if rate * (len(train) + 1) < 1:
                continue
            (alarms, hits), *splits = [_at(rate, np.sort(getattr(scores, name)), scores) for scores in all_scores]
            means, spreads = np.mean(splits, axis=0), np.std(splits, axis=0, ddof=1)
            print(
                f"{name:<9} rate {rate:4.0%}   given split: false alarms {alarms:5.1f} %, found {hits:5.1f} %   "
                f"{_SPLITS.value} splits: false alarms {means[0]:5.1f} +/- {spreads[0]:4.1f} %, "
                f"found {means[1]:5.1f} +/- {spreads[1]:4.1f} %"
            )


def _features(detector: ImageDetector | PatchDetector, items: list[reading.Item]) -> tuple[np.ndarray, np.ndarray]:
    """Features [count, ...] of images, or of their patches, and the images' labels."""
    examples = reading.read(items, detector.size, detector.how_read)
    if isinstance(detector, PatchDetector):
        return np.stack(list(detector.embed_patches.each(examples.images))), examples.labels
    return detector.embed(examples.images), examples.labels


def _of_images(detector: Detector, fitted: np.ndarray, normal: np.ndarray, anomalous: np.ndarray) -> _Scores:
    density = densities.build(detector.config.density).fit(fitted)
    scores = (-density.score_samples(features) for features in (fitted, normal, anomalous))
    return _Scores(-density.held_out(fitted), *scores)


def _of_patches(detector: Detector, fitted: np.ndarray, normal: np.ndarray, anomalous: np.ndarray) -> _Scores:
    density = patch_density.build(detector.config.density).fit(iter(fitted), len(fitted))

    def of_images(patches: np.ndarray) -> np.ndarray:
        places = round(patches.shape[1] ** 0.5)
        return detector.reduce(patches.reshape(-1, places, places).astype(np.float32))[0]

    scores = (of_images(density.peak - density.score_samples(features)) for features in (fitted, normal, anomalous))
    return _Scores(of_images(density.held_out), *scores)


def _at(rate: float, normal: np.ndarray, scores: _Scores) -> tuple[float, float]:
    """Percents of other normal images and of anomalous ones above the threshold by scores of normal images, sorted."""
    threshold = calibration.Calibration(normal, np.empty(0)).threshold(rate)
    alarms, hits = (100 * np.mean(values > threshold) for values in (scores.normal, scores.anomalous))
    return float(alarms), float(hits)


if __name__ == "__main__":
    app.run(main)
