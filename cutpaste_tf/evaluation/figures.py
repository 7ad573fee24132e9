"""Metrics as users see them: names, meanings, and comparisons with other evaluations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf import json_files, runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import read_csv
from cutpaste_tf.images import sources
from cutpaste_tf.images.reading import Item
from cutpaste_tf.images.synthetic import SyntheticOptions
from cutpaste_tf.pictures.page import Figure
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import Config

PIXELS = "Gaussian on 32 x 32 pixels"
# Key in metrics.json -> name and meaning.
_FIGURES = {
    "image_auroc": (
        "image AUROC",
        "The chance that an anomalous image scores higher than a normal one: 100 % is perfect, 50 % is guessing.",
    ),
    "pixel_auroc": (
        "pixel AUROC",
        "The same for pixels inside and outside the marked defects. Large defects weigh more than small ones.",
    ),
    "aupro": (
        "AUPRO",
        "How much of each marked defect the heat covers, with every defect counting equally, while at most 30 % of the "
        "other pixels are hot. 100 % is perfect.",
    ),
}
# Key in metrics.json -> name on the page; those in `_FIGURES` have their own table.
_FACTS = {
    "threshold": "threshold",
    "false_alarm_rate": "false alarm rate",
    "calibration_images": "normal images that set the threshold",
    "called_anomalous": "images called anomalous",
    "true_positives": "anomalous images called anomalous",
    "false_negatives": "anomalous images called normal (misses)",
    "false_positives": "normal images called anomalous (false alarms)",
    "true_negatives": "normal images called normal",
    "false_alarms": "false alarms among the normal images",
    "recall": "recall: anomalous images called anomalous",
    "precision": "precision: anomalous images among those called anomalous",
    "f1": "F1",
    "best_f1_by_test_labels": "F1 at the threshold that suits these images best",
    "anomalous_without_mask": "anomalous images without a mask",
    "data": "test images",
    "location": "location of the test images",
    "train_images": "normal training images",
    "test_normal": "normal test images",
    "test_anomalous": "anomalous test images",
    "test_unlabelled": "unlabeled test images",
    "steps": "training steps",
    "synthetic": "synthetic anomalies",
    "ensemble": "runs that form one detector",
    "feature_dimensions": "feature dimensions",
}
# Figures that are meaningless if a class has no images.
_BY_CLASS = {
    "test_anomalous": ("true_positives", "false_negatives", "recall"),
    "test_normal": ("false_positives", "true_negatives", "false_alarms"),
}
_MAY_BE_ZERO = ("anomalous_without_mask", "test_normal", "test_anomalous", "test_unlabelled")  # not shown if 0
_PERCENT = ("false_alarms", "recall", "precision", "f1", "best_f1_by_test_labels")
# The scoring settings, which metrics.json also has outside of `settings`.
_SETTINGS = ("gradcam_layer", *(field.name for field, _ in leaves(Config) if field.name not in _FACTS))
_METRICS = "metrics.json"


def of_others(
    places: Sequence[str], location: str | Path, items: Sequence[Item], synthetic: SyntheticOptions | None
) -> dict[str, dict[str, Any]]:
    """The results of other evaluations on the same test images.

    Args:
        places: folders of evaluations, or of runs, whose `eval` folder is used.
        location: location of the test images.
        items: the test images.
        synthetic: the synthetic anomalies pasted onto them, if any.

    Returns:
        Contents of metrics.json by place.

    Raises:
        InputError: there is no evaluation, or it used other images.
    """
    others = {}
    for place in places:
        path = Path(place).expanduser()
        path = path / _METRICS if (path / _METRICS).is_file() else path / runs.EVAL / _METRICS
        try:
            metrics = json_files.read(path)
            other = metrics["location"]
            scored = {row["path"] for row in read_csv(path.with_name("scores.csv"))}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"--beside={place} holds no evaluation ({path}); run eval_main.py --run_dir={place} first."
            ) from None
        if other != sources.canonical(str(location)):
            raise InputError(f"--beside={place} is an evaluation of {other}, not of {location}.")
        expected = dict(synthetic._asdict()) if synthetic else None
        if metrics.get("synthetic") != expected or (not expected and scored != {item.path for item in items}):
            raise InputError(f"--beside={place} is an evaluation of other images of {location}.")
        others[place] = metrics
    return others


def columns(result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Titles of `table`'s columns."""
    return ["this evaluation", *others, *([PIXELS] if result["pixel_gaussian_auroc"] is not None else [])]


def table(result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """The metrics over all test images and by kind of defect, those of other evaluations, and settings that differ.

    Args:
        result: the content of metrics.json.
        others: the same for other evaluations, by place.
    """
    pixels, every = result["pixel_gaussian_auroc"], (result, *others.values())
    rows, by_defect = [], []
    for key, (name, meaning) in _FIGURES.items():
        if result.get(key) is None:
            continue
        last = [] if pixels is None else [_percent(pixels if key == "image_auroc" else None)]
        rows.append(Figure(name, meaning, [_percent(metrics.get(key)) for metrics in every] + last))
        for defect in result[f"{key}_by_defect"]:
            values = [_percent(metrics.get(f"{key}_by_defect", {}).get(defect)) for metrics in every]
            by_defect.append(Figure(f"{name}, {defect}", "", values + ([""] if last else [])))
    differing = [
        Figure(name, "A setting that differs.", values + ([] if pixels is None else [""]))
        for name, values in _differences(result, others).items()
    ]
    return rows + by_defect + differing


def facts(result: Mapping[str, Any]) -> dict[str, str]:
    """The other meaningful values in metrics.json, by readable names; settings by their flags."""
    undefined = {key for group, keys in _BY_CLASS.items() if not result[group] for key in keys}
    shown = {}
    for key, name in _FACTS.items():
        value = result.get(key)
        if key not in undefined and value is not None and not (key in _MAY_BE_ZERO and value == 0):
            shown[name] = _percent(value) if key in _PERCENT else _written(value)
        if key == "false_alarm_rate" and value is not None:
            low, high = result["false_alarm_rate_low"], result["false_alarm_rate_high"]
            shown["false alarm rate, 90 % interval of the true one"] = f"{low:.2g} to {high:.2g}"
    return shown | {f"--{name}": _written(result[name]) for name in _SETTINGS if name in result}


def _differences(result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Settings and other inputs of scores that differ between evaluations: values by name."""
    every = [result, *others.values()]
    has_all = all("settings" in metrics for metrics in every)  # version 0.2 has only the scoring settings
    decisive = [_decisive(metrics, has_all) for metrics in every]
    differing = {}
    for name in dict.fromkeys(name for settings in decisive for name in settings):
        values = [settings.get(name, "-") for settings in decisive]
        if len(set(values)) > 1:
            differing[name] = values
    return differing


def _decisive(metrics: Mapping[str, Any], has_all: bool) -> dict[str, str]:
    """What determines an evaluation's scores, by name: all settings, or only the scoring settings."""
    settings = {name: metrics[name] for name in _SETTINGS if name in metrics} | (metrics["settings"] if has_all else {})
    other = {_FACTS[key]: metrics[key] for key in ("train_images", "steps", "ensemble") if key in metrics}
    named = other | {f"--{name}": value for name, value in settings.items()}
    return {name: _written(value) for name, value in named.items()}


def line(result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str:
    """The metrics, and the settings that differ, in one line."""
    parts = []
    for key, (name, _) in _FIGURES.items():
        if result.get(key) is None:
            continue
        compared = [f"{place} {_percent(metrics.get(key))}" for place, metrics in others.items()]
        if key == "image_auroc" and result["pixel_gaussian_auroc"] is not None:
            compared.append(f"{PIXELS} {_percent(result['pixel_gaussian_auroc'])}")
        parts.append(f"{name} {_percent(result[key])}" + (f" ({'; '.join(compared)})" if compared else ""))
    figures = ", ".join(parts) or "no AUC, which needs images known to be normal and images known to be anomalous"
    differing = [f"{name} {value} ({'; '.join(rest)})" for name, (value, *rest) in _differences(result, others).items()]
    return figures + (f". Settings that differ: {', '.join(differing)}" if differing else "")


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"
