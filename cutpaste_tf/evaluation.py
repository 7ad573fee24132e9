"""Scores embedded test images, and writes what a paper or an engineer needs of it. No TensorFlow here."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import metrics, plots, runs
from cutpaste_tf.config import EVALUATION_SETTINGS, Config
from cutpaste_tf.density import Density, LowRankGaussian
from cutpaste_tf.embeddings import Embeddings

PIXELS = "Gaussian on 32 x 32 pixels"
_THUMBNAILS = 2000  # as many training images at most say what raw pixels would do


def evaluate(
    folder: Path,
    data: str,
    config: Config,
    *,
    density: Density,
    train: Embeddings,
    test: Embeddings,
    synthetic: dict[str, Any] | None = None,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Scores test images and fills a folder.

    Args:
        folder: what to fill, whole or not at all.
        data: where the test images are from, for the record.
        config: the settings that hold, for the record.
        density: fitted to the training features.
        train: normal training images.
        test: test images.
        synthetic: how synthetic anomalies were made, for the record.
        report: takes a line for the user.

    Returns:
        What metrics.json holds; AUROCs in percent, None where a class is missing.
    """
    scores, labels = -density.score_samples(test.features), test.labels
    pixel_scores = _pixel_scores(train.thumbnails, test.thumbnails)
    result = {
        "image_auroc": metrics.auroc(labels, scores),
        "image_auroc_by_defect": metrics.auroc_by_defect(labels, test.defects, scores),
        "pixel_gaussian_auroc": metrics.auroc(labels, pixel_scores),
        "data": data,
        "train_images": len(train.features),
        "test_normal": int(np.sum(labels == 0)),
        "test_anomalous": int(np.sum(labels == 1)),
        "test_unlabelled": int(np.sum(labels < 0)),
        "feature_dimensions": test.features.shape[1],
        **{name: getattr(config, name) for name in EVALUATION_SETTINGS},
        "seed": config.seed,
        "steps": config.total_steps,
        **({"synthetic": synthetic} if synthetic else {}),
    }
    with runs.whole_folder(folder) as partial:
        _write(partial, result, test, scores)
        np.savez(
            partial / "embeddings.npz",
            train_features=train.features,
            train_paths=np.array(train.paths),
            test_features=test.features,
            test_paths=np.array(test.paths),
            test_labels=labels,
            test_defects=np.array(test.defects),
        )
    _report(result, folder, report)
    return result


def _write(folder: Path, result: dict[str, Any], test: Embeddings, scores: np.ndarray) -> None:
    (folder / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    columns = zip(test.paths, test.labels, test.defects, scores, strict=True)
    rows = [
        {"path": path, "label": "" if label < 0 else int(label), "defect": defect, "score": f"{score:.6f}"}
        for path, label, defect, score in columns
    ]
    runs.write_csv(folder / "scores.csv", rows)
    auroc = result["image_auroc"]
    title = result["data"] if auroc is None else f"{result['data']}: image AUROC {auroc:.1f} %"
    plots.save_histogram(folder / "histogram.png", test.defects, scores, title)
    if auroc is not None:
        plots.save_roc(folder / "roc.png", test.labels, scores, title)


def _pixel_scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Scores of a baseline that learns no representation: the pixels themselves are the feature."""
    train = train[:: math.ceil(len(train) / _THUMBNAILS)]
    density = LowRankGaussian(l2_normalize=False).fit(train.reshape(len(train), -1) / 255)
    parts = np.array_split(test, math.ceil(len(test) / 1000))  # in parts, to bound the memory
    return np.concatenate([-density.score_samples(part.reshape(len(part), -1) / 255) for part in parts])


def _report(result: dict[str, Any], folder: Path, report: Callable[[str], None]) -> None:
    if result["image_auroc"] is None:
        report(
            f"No AUC: of the {sum(result[k] for k in ('test_normal', 'test_anomalous', 'test_unlabelled'))} images "
            f"{result['test_normal']} are known normal and {result['test_anomalous']} known anomalous; "
            "an AUC needs both. The scores are written."
        )
    else:
        report(f"image AUROC     {result['image_auroc']:6.2f} %   ({PIXELS}: {result['pixel_gaussian_auroc']:.2f} %)")
        for defect, value in result["image_auroc_by_defect"].items():
            report(f"  {defect:<14}{value:6.2f} %")
    report(f"Results: {folder}/ ({', '.join(sorted(path.name for path in folder.iterdir()))})")
