"""Scores test images with a trained run, and writes what a paper or an engineer needs of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import detector as detectors
from cutpaste_tf import metrics, plots, runs
from cutpaste_tf.density import GaussianDensity
from cutpaste_tf.detector import Detector
from cutpaste_tf.images import Examples, thumbnails

PIXELS = "Gaussian on 32 x 32 pixels"


def evaluate(
    run_dir: Path, data: str, examples: Examples, *, report: Callable[[str], None], into: str = runs.EVAL
) -> dict[str, Any]:
    """Scores examples with the detector of a run and fills the run's folder `eval`.

    Args:
        run_dir: the folder of a complete run.
        data: where the examples are from, for the record.
        examples: test images at the run's image size.
        report: takes a line for the user.
        into: name of the folder to fill, in the run's.

    Returns:
        What metrics.json holds; AUROCs in percent, None where a class is missing.
    """
    detector = Detector.load(run_dir / "detector")
    config = detector.config
    features = detectors.embed(detector.feature, examples.images)
    scores = detector.score_features(features)
    with np.load(run_dir / "train_embeddings.npz") as train:
        train_features, train_paths = train["features"], train["paths"]
        pixel_scores = _pixel_scores(train["thumbnails"], thumbnails(examples.images))
    labels = examples.labels
    result = {
        "image_auroc": metrics.auroc(labels, scores),
        "image_auroc_by_defect": metrics.auroc_by_defect(labels, examples.defects, scores),
        "pixel_gaussian_auroc": metrics.auroc(labels, pixel_scores),
        "data": data,
        "train_images": len(train_features),
        "test_normal": int(np.sum(labels == 0)),
        "test_anomalous": int(np.sum(labels == 1)),
        "test_unlabelled": int(np.sum(labels < 0)),
        "feature_dimensions": features.shape[1],
        "density": config.density,
        "l2_normalize": config.l2_normalize,
        "reg_covar": config.reg_covar,
        "seed": config.seed,
        "steps": config.total_steps,
    }
    folder = run_dir / into
    with runs.whole_folder(folder) as partial:
        _write(partial, result, examples, scores)
        np.savez(
            partial / "embeddings.npz",
            train_features=train_features,
            train_paths=train_paths,
            test_features=features,
            test_paths=np.array(examples.paths),
            test_labels=labels,
            test_defects=np.array(examples.defects),
        )
    _report(result, folder, report)
    return result


def _write(folder: Path, result: dict[str, Any], examples: Examples, scores: np.ndarray) -> None:
    (folder / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    columns = zip(examples.paths, examples.labels, examples.defects, scores, strict=True)
    rows = [
        {"path": path, "label": "" if label < 0 else int(label), "defect": defect, "score": f"{score:.6f}"}
        for path, label, defect, score in columns
    ]
    runs.write_csv(folder / "scores.csv", rows)
    auroc = result["image_auroc"]
    title = result["data"] if auroc is None else f"{result['data']}: image AUROC {auroc:.1f} %"
    plots.save_histogram(folder / "histogram.png", examples.defects, scores, title)
    if auroc is not None:
        plots.save_roc(folder / "roc.png", examples.labels, scores, title)


def _pixel_scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Scores of a baseline that learns no representation: the pixels themselves are the feature."""
    density = GaussianDensity(l2_normalize=False).fit(train.reshape(len(train), -1) / 255)
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
