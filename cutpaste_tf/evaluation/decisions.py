"""Compares decisions on test images, by the threshold from normal images, with the images' labels."""

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_curve, precision_recall_fscore_support

from cutpaste_tf.detection.calibration import Calibration, Decisions


def figures(
    calibration: Calibration, decided: Decisions, labels: np.ndarray, defects: list[str], scores: np.ndarray
) -> dict[str, Any]:
    """The part of metrics.json about decisions.

    Args:
        calibration: the calibration they are based on.
        decided: the decision on each test image.
        labels: [count]: 0 normal, 1 anomalous, others unknown.
        defects: name of each image's defect.
        scores: [count].

    Returns:
        Rates in percent, None if a class is missing; `best_f1_by_test_labels` is F1 at the threshold that is best for
        the test images, which is not known in advance.
    """
    known, called = labels >= 0, decided.anomalous
    low, high = calibration.spread(decided.rate)
    confusion = confusion_matrix(labels[known], called[known], labels=[0, 1]) if known.any() else np.zeros((2, 2), int)
    (true_negatives, false_positives), (false_negatives, true_positives) = confusion.tolist()
    result: dict[str, Any] = {
        "threshold": decided.threshold,
        "false_alarm_rate": decided.rate,
        "false_alarm_rate_low": low,
        "false_alarm_rate_high": high,
        "calibration_images": len(calibration.scores),
        "called_anomalous": int(np.sum(called)),
        "true_positives": true_positives,
        "false_positives": false_positives,
        "true_negatives": true_negatives,
        "false_negatives": false_negatives,
        "false_alarms": _percent(called[labels == 0]),
        "recall": _percent(called[labels == 1]),
        "recall_by_defect": {},
        "precision": None,
        "f1": None,
        "best_f1_by_test_labels": None,
    }
    names = np.array(defects)
    for defect in sorted(set(names[labels == 1])):
        result["recall_by_defect"][str(defect)] = _percent(called[names == defect])
    if len(set(labels[known])) == 2:
        precision, _, f1, _ = precision_recall_fscore_support(
            labels[known],
            called[known],
            average="binary",
            zero_division=0,  # pyright: ignore[reportArgumentType]
        )
        precisions, recalls, _ = precision_recall_curve(labels[known], scores[known])
        best = np.max(2 * precisions * recalls / np.maximum(precisions + recalls, 1e-300))
        result |= {"precision": 100.0 * float(precision), "f1": 100.0 * float(f1)}
        result["best_f1_by_test_labels"] = 100.0 * float(best)
    return result


def line(result: dict[str, Any]) -> str:
    """The decisions in one line."""
    heading = f"threshold {result['threshold']:.6g}, false alarm rate {result['false_alarm_rate']:.3g}"
    heading += f" (between {result['false_alarm_rate_low']:.2g} and {result['false_alarm_rate_high']:.2g}, from "
    heading += f"{result['calibration_images']} normal images)"
    parts = []
    if result["false_alarms"] is not None:
        normal = result["false_positives"] + result["true_negatives"]
        parts.append(f"{result['false_positives']} of {normal} normal images are called anomalous")
    if result["recall"] is not None:
        anomalous = result["true_positives"] + result["false_negatives"]
        parts.append(f"{result['true_positives']} of {anomalous} anomalous images are found")
    if not parts:
        parts.append(f"{result['called_anomalous']} images are called anomalous")
    return f"{heading}: {', '.join(parts)}"


def _percent(chosen: np.ndarray) -> float | None:
    return 100.0 * float(np.mean(chosen)) if len(chosen) else None
