"""Pictures of heat maps: one for each test image, and a sheet like the paper's figure 4."""

import collections
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from cutpaste_tf.images.reading import Examples
from cutpaste_tf.images.settings import GOOD
from cutpaste_tf.pictures import drawing

_COLORS = (255 * drawing.matplotlib.colormaps["turbo"](np.linspace(0, 1, 256))[:, :3]).astype(np.uint8)
_RED = np.array([255, 30, 30], np.uint8)
_STRIP = 16  # height of a line of text
_COLUMNS = 12


def save(folder: Path, examples: Examples, maps: np.ndarray, scores: np.ndarray) -> None:
    """Writes heatmaps/DEFECT/NAME.png for each image, and heatmaps.png, the sheet.

    All use one color scale, from the median to the 99.9th percentile of all pixels' scores, by their square root.

    Args:
        folder: to write to, one that is put in place as a whole.
        examples: images and masks.
        maps: float32 [count, side, side].
        scores: [count], of the images.
    """
    low, high = _scale(maps)
    root = folder / "heatmaps"
    taken: set[Path] = set()
    for index, name in enumerate(examples.paths):
        relative = Path(name.removeprefix("test/"))
        path = root / relative.with_suffix(".png")
        if path in taken:  # 000.jpg beside 000.png
            name = f"{relative.name}.png"
            path = path.with_name(name if len(os.fsencode(name)) <= 255 else f"{index}.png")
        taken.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        panels = _panels(examples.images[index], examples.masks[index], maps[index], low, high)
        picture = np.concatenate(list(panels), axis=1)
        text = f"score {scores[index]:.1f}   colors {low:.4g} to {high:.4g}"
        Image.fromarray(_with_text(picture, text)).save(path)
    _save_sheet(folder / "heatmaps.png", examples, maps, scores, (low, high))


def _scale(maps: np.ndarray) -> tuple[float, float]:
    """The ends of the color scale, from at most 16 million pixels."""
    every = math.ceil(np.sqrt(maps.size / 2**24))
    low, high = np.quantile(maps[:, ::every, ::every], [0.5, 0.999])
    return float(low), float(high) if high > low else float(low) + 1.0


def _save_sheet(
    path: Path, examples: Examples, maps: np.ndarray, scores: np.ndarray, scale: tuple[float, float]
) -> None:
    """A column for each of up to twelve images, every kind of defect in turn: input, mask, heat map, overlay."""
    columns = []
    for index in _chosen(examples.defects):
        stack = np.concatenate(list(_panels(examples.images[index], examples.masks[index], maps[index], *scale)))
        columns.append(_with_text(stack, f"{examples.defects[index] or 'unlabelled'}  {scores[index]:.1f}"))
    Image.fromarray(np.concatenate(columns, axis=1)).save(path)


def _chosen(defects: list[str]) -> list[int]:
    """Indices of images for the sheet, normal ones first."""
    kinds = sorted(set(defects), key=lambda kind: (kind != GOOD, kind))
    places = {kind: [index for index, defect in enumerate(defects) if defect == kind] for kind in kinds}
    share: collections.Counter[str] = collections.Counter()
    while sum(share.values()) < min(_COLUMNS, len(defects)):
        for kind in reversed(kinds):  # a normal image last, if there is room
            if share[kind] < len(places[kind]) and sum(share.values()) < _COLUMNS:
                share[kind] += 1
    return [places[kind][i] for kind in kinds for i in np.linspace(0, len(places[kind]) - 1, share[kind]).astype(int)]


def _panels(
    image: np.ndarray, mask: np.ndarray | None, heat: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Input, input with the mask's outline, heat map, heat map over the input; uint8 [side, side, 3] each."""
    outlined = image.copy()
    if mask is not None:
        outlined[mask & ~ndimage.binary_erosion(mask, iterations=2)] = _RED
    # The root, since scores are squared distances: without it one gross defect leaves all others dark.
    level = np.sqrt(np.clip((heat - low) / (high - low), 0, 1))
    colors = _COLORS[(255 * level).astype(np.uint8)]
    opacity = 0.15 + 0.5 * level[:, :, None]
    grey = image.mean(axis=2, keepdims=True)
    return image, outlined, colors, (opacity * colors + (1 - opacity) * grey).astype(np.uint8)


def _with_text(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a line of text above it."""
    strip = Image.new("RGB", (picture.shape[1], _STRIP), "white")
    text = drawing.label(text)
    ImageDraw.Draw(strip).text((3, 2), text, fill="black", font=drawing.font(text))
    return np.concatenate([np.asarray(strip), picture])
