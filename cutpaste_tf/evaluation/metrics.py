"""Metrics, all in percent; scores are anomaly scores, higher = more anomalous."""

import numpy as np
from sklearn.metrics import roc_auc_score


def auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve in percent; None unless there are both normal and anomalous images.

    Args:
        labels: [count], 0 normal, 1 anomalous; others are ignored.
        scores: [count], anomaly scores.
    """
    labelled = labels >= 0
    if len(np.unique(labels[labelled])) < 2:
        return None
    return 100.0 * float(roc_auc_score(labels[labelled], scores[labelled]))


def auroc_by_defect(labels: np.ndarray, defects: list[str], scores: np.ndarray) -> dict[str, float]:
    """AUROC in percent for each kind of defect against all normal images; empty without normal images."""
    names = np.array(defects)
    result = {}
    for defect in sorted(set(names[labels == 1])):
        chosen = (labels == 0) | (names == defect)
        value = auroc(labels[chosen], scores[chosen])
        if value is not None:
            result[str(defect)] = value
    return result
