"""Figures of merit for people: their names, what they mean, and how they stand beside other evaluations'."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf import runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.images.reading import Item
from cutpaste_tf.images.synthetic import SyntheticOptions
from cutpaste_tf.pictures.page import Figure

PIXELS = "Gaussian on 32 x 32 pixels"
# Key in metrics.json -> name and meaning.
_FIGURES = {
    "image_auroc": (
        "image AUROC",
        "The chance that a defective image scores higher than a good one: 100 % is perfect, 50 % is guessing.",
    ),
    "pixel_auroc": (
        "pixel AUROC",
        "The same of pixels inside and outside the marked defects. Large defects weigh more than small ones.",
    ),
    "aupro": (
        "AUPRO",
        "How much of each marked defect the heat covers, every defect counting alike, while at most 30 % of the "
        "other pixels are hot. 100 % is perfect.",
    ),
}
_METRICS = "metrics.json"


def of_others(
    places: Sequence[str], location: str | Path, items: Sequence[Item], synthetic: SyntheticOptions | None
) -> dict[str, dict[str, Any]]:
    """What other evaluations of the same test images found.

    Args:
        places: folders of evaluations, or of runs, whose `eval` is meant.
        location: of the test images.
        items: the test images.
        synthetic: the synthetic anomalies that are pasted on them, if any.

    Returns:
        Contents of metrics.json by place.

    Raises:
        InputError: there is no evaluation, or one of other images.
    """
    found = {}
    for place in places:
        path = Path(place).expanduser()
        path = path / _METRICS if (path / _METRICS).is_file() else path / runs.EVAL / _METRICS
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            other = metrics["location"]
            with path.with_name("scores.csv").open(newline="", encoding="utf-8") as file:
                scored = {row["path"] for row in csv.DictReader(file)}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"--beside={place} holds no evaluation ({path}); run eval_main.py --run_dir={place} first."
            ) from None
        if other != sources.canonical(str(location)):
            raise InputError(f"--beside={place} is an evaluation of {other}, not of {location}.")
        made = dict(synthetic._asdict()) if synthetic else None
        if metrics.get("synthetic") != made or (not made and scored != {item.path for item in items}):
            raise InputError(f"--beside={place} is an evaluation of other images of {location}.")
        found[place] = metrics
    return found


def columns(result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Titles of `table`'s columns."""
    return ["this evaluation", *others, *([PIXELS] if result["pixel_gaussian_auroc"] is not None else [])]


def table(result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """The figures, of all test images and by kind of defect, beside those of other evaluations.

    Args:
        result: what metrics.json holds.
        others: the same of other evaluations, by place.
    """
    pixels, every = result["pixel_gaussian_auroc"], (result, *others.values())
    rows, by_defect = [], []
    for key, (name, meaning) in _FIGURES.items():
        if result.get(key) is None:
            continue
        last = [] if pixels is None else [_percent(pixels if key == "image_auroc" else None)]
        rows.append(Figure(name, meaning, [_percent(one.get(key)) for one in every] + last))
        for defect in result[f"{key}_by_defect"]:
            values = [_percent(one.get(f"{key}_by_defect", {}).get(defect)) for one in every]
            by_defect.append(Figure(f"{name}, {defect}", "", values + ([""] if last else [])))
    return rows + by_defect


def line(result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures in a line."""
    parts = []
    for key, (name, _) in _FIGURES.items():
        if result.get(key) is None:
            continue
        compared = [f"{place} {_percent(one.get(key))}" for place, one in others.items()]
        if key == "image_auroc" and result["pixel_gaussian_auroc"] is not None:
            compared.append(f"{PIXELS} {_percent(result['pixel_gaussian_auroc'])}")
        parts.append(f"{name} {_percent(result[key])}" + (f" ({'; '.join(compared)})" if compared else ""))
    return ", ".join(parts) or "no AUC, which needs images known to be normal and known to be anomalous"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"
