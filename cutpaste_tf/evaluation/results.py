"""The output of an evaluation: metrics, scores, plots, heat maps and the page."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import arrays
from cutpaste_tf.detection import prediction
from cutpaste_tf.detection.calibration import Decisions
from cutpaste_tf.detection.detector import Scores
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.detection.pixel_detector import PixelDetector
from cutpaste_tf.evaluation import decisions, figures, metrics, pixel_metrics
from cutpaste_tf.evaluation.plan import Plan
from cutpaste_tf.files import whole_folder, write_arrays, write_csv
from cutpaste_tf.images import public_sets, sources
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.pictures import drawing, heat_map_plots, page, plots
from cutpaste_tf.progress import Report


class Evaluated(NamedTuple):
    """An evaluation before it is written.

    Attributes:
        plan: what was requested.
        title: what was scored, for the user.
        tests: the test images.
        scores: the scores of the test images.
        decisions: the decisions by the threshold; None if there is none.
        train: what the run stores about its training images, if anything.
    """

    plan: Plan
    title: str
    tests: ImageSet
    scores: Scores
    decisions: Decisions | None
    train: Embeddings | None


def write(plan: Plan, title: str, tests: ImageSet, scores: Scores, report: Report) -> dict[str, Any]:
    """Writes the folder of an evaluation, atomically.

    Args:
        plan: what was requested.
        title: what was scored, for the user.
        tests: the test images.
        scores: the scores of the test images.

    Returns:
        The content of metrics.json; AUROCs in percent, None if a class is missing.
    """
    normal = plan.detector.calibration
    decided = plan.detector.decide(scores.scores)
    evaluated = Evaluated(plan, title, tests, scores, decided, plan.detector.training_embeddings())
    result = _figures_of_merit(evaluated)
    if normal and decided:
        result |= decisions.figures(normal, decided, tests.labels, tests.defects, scores.scores)
    result |= _record(evaluated)
    with whole_folder(plan.folder) as partial:
        _write_scores(partial, evaluated, result)
        _write_embedded(partial, evaluated)
        _draw(partial, evaluated, result, report)
    _report(result, plan.folder, report)
    report(f"Figures: {figures.line(result, plan.others)}")
    pictures = [name for name in ("heatmaps.png", "histogram.png") if (plan.folder / name).is_file()]
    report(f"Picture: {plan.folder / pictures[0]}")
    if (plan.folder / page.NAME).is_file():
        report(f"Page:    {plan.folder / page.NAME}")
    return result


def _figures_of_merit(evaluated: Evaluated) -> dict[str, Any]:
    plan, tests, scores, train = evaluated.plan, evaluated.tests, evaluated.scores, evaluated.train
    labels, defects = tests.labels, tests.defects
    pixels = None
    if train is not None:
        baseline = PixelDetector(plan.detector.config, plan.detector.data).fit(train.thumbnails)
        parts = arrays.batches(tests.thumbnails, 1000)  # in parts, to limit memory
        baseline_scores = [baseline.negative_log_density(baseline.embed(part)) for part in parts]
        pixels = metrics.auroc(labels, np.concatenate(baseline_scores))
    result = {
        "image_auroc": metrics.auroc(labels, scores.scores),
        "image_auroc_by_defect": metrics.auroc_by_defect(labels, defects, scores.scores),
        "pixel_gaussian_auroc": pixels,
    }
    if scores.heat_maps is not None:
        examples = tests.examples
        blanked = examples.images if plan.detector.config.data.reading.region else None
        limit = public_sets.pro_limit(sources.folder(plan.data))
        result |= pixel_metrics.pixel_metrics(scores.heat_maps, examples.masks, labels, defects, blanked, limit=limit)
        result["pro_limit"] = limit
    return result


def _record(evaluated: Evaluated) -> dict[str, Any]:
    """What was evaluated, and how."""
    plan, labels, embedded = evaluated.plan, evaluated.tests.labels, evaluated.scores.embedded
    config, options = plan.detector.config, plan.options
    settings = config.features.flat() | config.density.flat() | config.heat_maps.flat()
    unused = {*plan.detector.unused_settings, *config.density.unused}
    record: dict[str, Any] = {
        "data": evaluated.title,
        "location": sources.canonical(plan.data),
        "train_images": len(plan.detector.data.images),
        "test_normal": int(np.sum(labels == 0)),
        "test_anomalous": int(np.sum(labels == 1)),
        "test_unlabelled": int(np.sum(labels < 0)),
        "patch_size": config.patch_size,
        **{name: value for name, value in settings.items() if name not in unused},
        "seed": config.seed,
        "steps": config.schedule.total_steps,
        "settings": config.flat(),
    }
    record |= {"gradcam_layer": options.gradcam_layer} if options.gradcam_layer else {}
    record |= {"synthetic": options.synthetic._asdict()} if options.synthetic else {}
    record |= {"ensemble": [str(folder) for folder in plan.run_dirs]} if len(plan.run_dirs) > 1 else {}
    if plan.detector.stored_as[1] == "features" and embedded is not None:
        record["feature_dimensions"] = embedded.shape[1]
    return record


def _write_scores(folder: Path, evaluated: Evaluated, result: dict[str, Any]) -> None:
    tests, scores, decided = evaluated.tests, evaluated.scores.scores, evaluated.decisions
    (folder / "metrics.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rows = [
        {"path": path, "label": "" if label < 0 else int(label), "defect": defect, "score": f"{score:.6f}"}
        for path, label, defect, score in zip(tests.paths, tests.labels, tests.defects, scores, strict=True)
    ]
    if decided:
        for row, p_value, word in zip(rows, decided.p_values, decided.words, strict=True):
            row |= {"p_value": f"{p_value:.6f}", "decision": word}
    write_csv(folder / "scores.csv", rows)
    auroc = result["image_auroc"]
    title = result["data"] if auroc is None else f"{result['data']}: image AUROC {auroc:.1f} %"
    threshold = decided.threshold if decided else None
    plots.save_histogram(folder / "histogram.png", tests.defects, scores, title, threshold=threshold)
    if auroc is not None:
        plots.save_roc(folder / "roc.png", tests.labels, scores, title)


def _write_embedded(folder: Path, evaluated: Evaluated) -> None:
    """Writes what the scores were computed from: features or patch scores."""
    (file, name), tests, train = evaluated.plan.detector.stored_as, evaluated.tests, evaluated.train
    if not file or evaluated.scores.embedded is None:
        return
    stored: dict[str, Any] = {
        f"test_{name}": evaluated.scores.embedded,
        "test_paths": np.array(tests.paths),
        "test_labels": tests.labels,
        "test_defects": np.array(tests.defects),
    }
    if train is not None and train.features.size:
        stored |= {"train_features": train.features, "train_paths": np.array(train.paths)}
    write_arrays(folder / file, stored)


def _draw(folder: Path, evaluated: Evaluated, result: dict[str, Any], report: Report) -> None:
    """Draws heat maps and the page."""
    plan, title, maps, decided = evaluated.plan, evaluated.title, evaluated.scores.heat_maps, evaluated.decisions
    limit, normal = plan.detector.pixel_threshold, plan.detector.calibration
    if maps is not None:
        report(f"Drawing {len(maps)} heat maps.")
        captions = _captions(evaluated.scores.scores, decided)
        heat_map_plots.save(folder, evaluated.tests.examples, maps, captions, pixel_threshold=limit, report=report)
    if plan.options.page:
        summary = page.Summary(
            title=f"CutPaste: {Path(title).name if Path(title).is_absolute() else title}",
            columns=figures.columns(result, plan.others),
            figures=figures.table(result, plan.others),
            facts=figures.facts(result),
        )
        p_values = decided.p_values if decided else None
        results = page.Results(evaluated.scores.scores, maps, p_values, _boxes(maps, limit))
        limits = page.Limits(decided.threshold if decided else None, normal.scores if normal else None, limit)
        page.save(folder, summary, evaluated.tests.examples, results, limits, report=report)


def _captions(scores: np.ndarray, decided: Decisions | None) -> list[str]:
    """The caption above each heat map."""
    digits = drawing.digits(scores)
    texts = [f"score {score:.{digits}f}" for score in scores]
    if decided is None:
        return texts
    each = zip(texts, decided.p_values, decided.words, strict=True)
    return [f"{text}, p {p_value:.2g}, {word}" for text, p_value, word in each]


def _boxes(maps: np.ndarray | None, limit: float | None) -> list[list[tuple[int, int, int, int]]] | None:
    """Boxes around regions hotter than a limit, for each heat map [count, height, width]; None without a limit."""
    if maps is None or limit is None:
        return None
    return [[box[:4] for box in prediction.boxes(heat, limit, heat.shape)] for heat in arrays.rows(maps)]


def _report(result: dict[str, Any], folder: Path, report: Report) -> None:
    width = max(14, *(len(defect) + 2 for defect in result["image_auroc_by_defect"]), 0)
    if result["image_auroc"] is None:
        report(
            f"No AUC: of the {sum(result[k] for k in ('test_normal', 'test_anomalous', 'test_unlabelled'))} images, "
            f"{result['test_normal']} are known to be normal and {result['test_anomalous']} to be anomalous, but an "
            "AUC needs both. The scores are written."
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
            f"{result['anomalous_without_mask']} of {result['test_anomalous']} anomalous images have no mask "
            "(ground_truth/DEFECT/NAME_mask.png) or an empty one, so pixel metrics do not cover them."
        )
    report(f"Results: {folder}/ ({', '.join(sorted(path.name for path in folder.iterdir()))})")
