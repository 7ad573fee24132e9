"""Scores embedded test images, and writes what a paper or an engineer needs of it. No TensorFlow here."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import arrays
from cutpaste_tf.density.low_rank import LowRankGaussian
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.calibration import Decisions
from cutpaste_tf.detection.embeddings import THUMBNAILS, Embeddings
from cutpaste_tf.evaluation import decisions, figures, metrics, pixel_metrics
from cutpaste_tf.evaluation.scored import Scored
from cutpaste_tf.files import whole_folder, write_arrays, write_csv
from cutpaste_tf.images import sources
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.pictures import drawing, heat_map_plots, page, plots
from cutpaste_tf.progress import Report
from cutpaste_tf.settings.base import PATCH_MODEL, only_for
from cutpaste_tf.settings.config import Config


def judge(
    folder: Path,
    data: str,
    config: Config,
    *,
    scored: Scored,
    train_images: int,
    examples: Examples | None = None,
    gradcam_layer: str = "",
    synthetic: dict[str, Any] | None = None,
    ensemble: list[str] | None = None,
    location: str = "",
    others: Mapping[str, Mapping[str, Any]] | None = None,
    with_page: bool = True,
    report: Report,
) -> dict[str, Any]:
    """Judges scores and heat maps of test images and fills a folder.

    Args:
        folder: what to fill, whole or not at all.
        data: where the test images are from, for the record.
        config: the settings that hold, for the record.
        train_images: how many the run was trained on, for the record.
        scored: scores, heat maps if there are any, and what is known of training and test images.
        examples: the test images with their masks; needed with heat maps, and for the page.
        gradcam_layer: that GradCAM was asked for, for the record.
        synthetic: how synthetic anomalies were made, for the record.
        ensemble: the runs that were one detector, for the record.
        location: where the test images lie, for the record.
        others: what metrics.json holds of other evaluations, by place, to stand beside.
        with_page: whether to write report.html, if there are `examples`.
        report: takes a line for the user.

    Returns:
        What metrics.json holds; AUROCs in percent, None where a class is missing.
    """
    train, test, scores, labels = scored.train, scored.test, scored.scores, scored.test.labels
    pixel_scores = _pixel_scores(train.thumbnails, test.thumbnails) if train else None
    pixels: dict[str, Any] = {}
    if scored.maps is not None and examples is not None:
        pixels = pixel_metrics.pixel_metrics(scored.maps, examples.masks, labels, test.defects)
    normal = calibration.of(scored.held_out, config)
    decided = normal.decide(scores, config.decision) if normal else None
    useless = [] if config.patch_size else only_for(type(config), PATCH_MODEL)
    scoring = config.features.flat() | config.density.flat() | config.heat_maps.flat()
    result = {
        "image_auroc": metrics.auroc(labels, scores),
        "image_auroc_by_defect": metrics.auroc_by_defect(labels, test.defects, scores),
        "pixel_gaussian_auroc": None if pixel_scores is None else metrics.auroc(labels, pixel_scores),
        **pixels,
        **(decisions.figures(normal, decided, labels, test.defects, scores) if normal and decided else {}),
        "data": data,
        "location": sources.canonical(location),
        "train_images": train_images,
        "test_normal": int(np.sum(labels == 0)),
        "test_anomalous": int(np.sum(labels == 1)),
        "test_unlabelled": int(np.sum(labels < 0)),
        "patch_size": config.patch_size,
        **{name: value for name, value in scoring.items() if name not in useless},
        "seed": config.seed,
        "steps": config.schedule.total_steps,
        **({"gradcam_layer": gradcam_layer} if gradcam_layer else {}),
        **({"synthetic": synthetic} if synthetic else {}),
        **({"ensemble": ensemble} if ensemble else {}),
    }
    if test.features.size and not config.patch_size:
        result["feature_dimensions"] = test.features.shape[1]
    with whole_folder(folder) as partial:
        _write(partial, result, test, scores, decided)
        _write_features(partial, scored, config)
        if scored.maps is not None and examples is not None:
            report(f"Drawing {len(scored.maps)} heat maps.")
            heat_map_plots.save(partial, examples, scored.maps, _captions(scores, decided), report=report)
        if with_page and examples is not None:
            page.save(
                partial,
                title=f"CutPaste: {Path(data).name if Path(data).is_absolute() else data}",
                columns=figures.columns(result, others or {}),
                figures=figures.table(result, others or {}),
                facts={name: _shown(value) for name, value in result.items() if "_by_" not in name},
                examples=examples,
                scores=scores,
                maps=scored.maps,
                threshold=decided.threshold if decided else None,
                p_values=decided.p_values if decided else None,
                report=report,
            )
    _report(result, folder, report)
    report(f"Figures: {figures.line(result, others or {})}")
    pictures = [name for name in ("heatmaps.png", "histogram.png") if (folder / name).is_file()]
    report(f"Picture: {folder / pictures[0]}")
    if (folder / page.NAME).is_file():
        report(f"Page:    {folder / page.NAME}")
    return result


def _captions(scores: np.ndarray, decided: Decisions | None) -> list[str]:
    """What stands above a heat map."""
    digits = drawing.digits(scores)
    texts = [f"score {score:.{digits}f}" for score in scores]
    if decided is None:
        return texts
    each = zip(texts, decided.p_values, decided.words, strict=True)
    return [f"{text}, p {p_value:.2g}, {word}" for text, p_value, word in each]


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _write_features(folder: Path, scored: Scored, config: Config) -> None:
    """What scores were made of: features, or the scores of patches; an export keeps them to itself."""
    test = scored.test
    if not test.features.size:
        return
    known: dict[str, Any] = {
        "test_paths": np.array(test.paths),
        "test_labels": test.labels,
        "test_defects": np.array(test.defects),
    }
    if config.patch_size:
        write_arrays(folder / "patch_scores.npz", {"test_patch_scores": test.features, **known})
        return
    if scored.train is not None:
        known |= {"train_features": scored.train.features, "train_paths": np.array(scored.train.paths)}
    write_arrays(folder / "embeddings.npz", {"test_features": test.features, **known})


def _write(
    folder: Path, result: dict[str, Any], test: Embeddings, scores: np.ndarray, decided: Decisions | None
) -> None:
    (folder / "metrics.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    columns = zip(test.paths, test.labels, test.defects, scores, strict=True)
    rows = [
        {"path": path, "label": "" if label < 0 else int(label), "defect": defect, "score": f"{score:.6f}"}
        for path, label, defect, score in columns
    ]
    if decided:
        for row, p_value, word in zip(rows, decided.p_values, decided.words, strict=True):
            row |= {"p_value": f"{p_value:.6f}", "decision": word}
    write_csv(folder / "scores.csv", rows)
    auroc = result["image_auroc"]
    title = result["data"] if auroc is None else f"{result['data']}: image AUROC {auroc:.1f} %"
    threshold = decided.threshold if decided else None
    plots.save_histogram(folder / "histogram.png", test.defects, scores, title, threshold=threshold)
    if auroc is not None:
        plots.save_roc(folder / "roc.png", test.labels, scores, title)


def _pixel_scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Scores of a baseline that learns no representation: the pixels themselves are the feature."""
    train = train[:: math.ceil(len(train) / THUMBNAILS)]
    density = LowRankGaussian(l2_normalize=False).fit(train.reshape(len(train), -1) / 255)
    parts = arrays.batches(test, 1000)  # in parts, to bound the memory
    return np.concatenate([-density.score_samples(part.reshape(len(part), -1) / 255) for part in parts])


def _report(result: dict[str, Any], folder: Path, report: Report) -> None:
    width = max(14, *(len(defect) + 2 for defect in result["image_auroc_by_defect"]), 0)
    if result["image_auroc"] is None:
        report(
            f"No AUC: of the {sum(result[k] for k in ('test_normal', 'test_anomalous', 'test_unlabelled'))} images "
            f"{result['test_normal']} are known normal and {result['test_anomalous']} known anomalous; "
            "an AUC needs both. The scores are written."
        )
    else:
        beside = result["pixel_gaussian_auroc"]
        compared = "" if beside is None else f"   ({figures.PIXELS}: {beside:.2f} %)"
        report(f"image AUROC     {result['image_auroc']:6.2f} %{compared}")
        for defect, value in result["image_auroc_by_defect"].items():
            report(f"  {defect:<{width}}{value:6.2f} %")
    if result.get("pixel_auroc") is not None:
        report(f"pixel AUROC     {result['pixel_auroc']:6.2f} %   AUPRO {result['aupro']:.2f} %")
        for defect, value in result["pixel_auroc_by_defect"].items():
            report(f"  {defect:<{width}}{value:6.2f} %   AUPRO {result['aupro_by_defect'][defect]:.2f} %")
    if "threshold" in result:
        report(f"Decisions: {decisions.line(result)}.")
    if result.get("anomalous_without_mask"):
        report(
            f"{result['anomalous_without_mask']} of {result['test_anomalous']} anomalous images have no mask, or an "
            "empty one (ground_truth/DEFECT/NAME_mask.png): no pixel figures for them."
        )
    report(f"Results: {folder}/ ({', '.join(sorted(path.name for path in folder.iterdir()))})")
