"""Plots of a run, as PNG files."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_curve

from cutpaste_tf.pictures import drawing
from cutpaste_tf.settings.data import GOOD


@drawing.own_style()
def save_augmentations(
    path: Path, views: np.ndarray, labels: np.ndarray, names: tuple[str, ...], *, columns: int = 8
) -> None:
    """A sheet of views: one row per class, one column per image.

    Args:
        path: the PNG to write.
        views: float32 [batch, height, width, 3] in [0, 1], as the network sees them.
        labels: int [batch].
        names: names of the classes, in the order of their labels.
        columns: maximum number of images.
    """
    rows = [views[labels == label][:columns] for label in range(len(names))]
    columns = len(rows[0])
    width, height = _panel(views, 1.6)
    figure, axes = drawing.subplots(len(rows), columns, figsize=(width * columns + 0.6, height * len(rows)))
    for name, row, images in zip(names, axes, rows, strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(textwrap.fill(name, 14))
    figure.tight_layout(pad=0.3)
    drawing.save(figure, path)


@drawing.own_style()
def save_sheet(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Figures 2 and 5 of the paper for any data: one row per source image, one column per augmentation.

    Args:
        path: the PNG to write.
        columns: title -> float32 [rows, height, width, 3] in [0, 1].
    """
    first = next(iter(columns.values()))
    rows, (width, height) = len(first), _panel(first, 1.35)
    figure, axes = drawing.subplots(rows, len(columns), figsize=(width * len(columns), height * rows + 0.45))
    for column, (title, images) in zip(axes.T, columns.items(), strict=True):
        for axis, image in zip(column, images, strict=True):
            axis.imshow(np.clip(image, 0, 1), interpolation="antialiased")
            axis.set(xticks=[], yticks=[])
        column[0].set_title(title, fontsize=7)
    figure.tight_layout(pad=0.3)
    drawing.save(figure, path)


def _panel(views: np.ndarray, side: float) -> tuple[float, float]:
    """Width and height of views' panels in inches, with the area of a square of `side` as nearly as text allows."""
    aspect = min(4.0, max(0.25, views.shape[2] / views.shape[1])) ** 0.5
    return side * aspect, side / aspect


@drawing.own_style()
def save_roc(path: Path, labels: np.ndarray, scores: np.ndarray, title: str) -> None:
    """The ROC curve of image-level detection.

    Args:
        path: the PNG to write.
        labels: [count], 0 normal, 1 anomalous, both present.
        scores: [count], anomaly scores.
        title: title above the curve.
    """
    false_positives, true_positives, _ = roc_curve(labels, scores)
    figure, ((axis,),) = drawing.subplots(1, 1, figsize=(4.5, 4.5))
    axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    axis.plot(false_positives, true_positives, linewidth=2)
    axis.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    figure.suptitle(drawing.fitted(title, 4.2, 10), fontsize=10, parse_math=False)
    axis.set_aspect("equal")
    figure.tight_layout()
    drawing.save(figure, path)


@drawing.own_style()
def save_histogram(
    path: Path, defects: list[str], scores: np.ndarray, title: str, *, threshold: float | None = None
) -> None:
    """Anomaly scores by kind of defect, one row for each, normal images first.

    Args:
        path: the PNG to write.
        defects: name of each image's defect, `good` for normal images, empty for unknown ones.
        scores: [count], anomaly scores.
        title: title above the rows.
        threshold: the score above which images are called anomalous, if any.
    """
    names = np.array(defects)
    kinds = sorted(set(defects), key=lambda name: (name != GOOD, name))
    score_axis = drawing.ScoreAxis.of(scores, names == GOOD, threshold)
    places, bins = score_axis.places(scores), np.linspace(0, 1, 41)
    texts = [drawing.fitted(f"{kind or 'unlabeled'} ({np.sum(names == kind)})", 6, 9) for kind in kinds]
    title = drawing.fitted(title, 6, 10)
    lines = "".join([title, *texts]).count("\n")
    size = 6.5, 0.7 + 1.3 * len(kinds) + 0.15 * lines
    figure, axes = drawing.subplots(len(kinds), 1, figsize=size, sharex=True)
    for axis, kind, text in zip(axes[:, 0], kinds, texts, strict=True):
        axis.hist(places[names == kind], bins=bins, color="tab:green" if kind == GOOD else "tab:red")
        axis.set_title(text, loc="left", fontsize=9, parse_math=False)
        axis.yaxis.get_major_locator().set_params(integer=True)
        if threshold is not None:
            axis.axvline(float(score_axis.places(threshold)), color="black", linestyle="dashed", linewidth=1)
    figure.suptitle(title, fontsize=10, parse_math=False)
    notes = [] if threshold is None else ["dashed: threshold"]
    notes += ["distant scores drawn closer together"] if score_axis.width else []
    axes[-1, 0].set_xlabel("anomaly score" + (f" ({'; '.join(notes)})" if notes else ""))
    ticks, values = score_axis.ticks()
    axes[-1, 0].set_xticks(ticks, [f"{value:.{drawing.digits(scores)}f}" for value in values])
    axes[-1, 0].set_xlim(-0.02, 1.02)
    figure.tight_layout(pad=0.5)
    drawing.save(figure, path)


@drawing.own_style()
def save_points(path: Path, points: np.ndarray, kinds: np.ndarray, title: str) -> None:
    """Points in the plane, with a color and a marker for each kind (Figure 3).

    Args:
        path: the PNG to write.
        points: [count, 2].
        kinds: name of each point's kind.
        title: title above the points.
    """
    figure, ((axis,),) = drawing.subplots(1, 1, figsize=(6, 5))
    for kind, mark in zip(dict.fromkeys(kinds), "o^sxD*+v", strict=False):
        axis.scatter(*points[kinds == kind].T, s=14, marker=mark, label=drawing.label(str(kind)), alpha=0.8)
    axis.set(xticks=[], yticks=[])
    axis.legend(fontsize=8)
    figure.suptitle(drawing.fitted(title, 5.6, 10), fontsize=10, parse_math=False)
    figure.tight_layout()
    drawing.save(figure, path)


@drawing.own_style()
def save_bars(path: Path, values: dict[str, float], title: str) -> None:
    """A horizontal bar for each name, the first on top.

    Args:
        path: the PNG to write.
        values: name -> percent.
        title: title above the bars.
    """
    figure, ((axis,),) = drawing.subplots(1, 1, figsize=(9, 0.6 + 0.26 * len(values)))
    places = np.arange(len(values))[::-1]
    axis.barh(places, [*values.values()], color=["tab:blue", *["0.75"] * (len(values) - 1)])
    axis.set_yticks(places, [*values], fontsize=7, parse_math=False)
    axis.set(xlim=(0, 100), ylim=(-0.6, len(values) - 0.4))
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.tight_layout()
    drawing.save(figure, path)
