"""Draws heat maps: one picture for each test image, and a sheet like the paper's Figure 4."""

import collections
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from cutpaste_tf import arrays
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.pictures import drawing
from cutpaste_tf.progress import Report, no_report, track
from cutpaste_tf.settings.data import GOOD

_COLORS = (255 * drawing.matplotlib.colormaps["turbo"](np.linspace(0, 1, 256))[:, :3]).astype(np.uint8)
_RED = np.array([255, 30, 30], np.uint8)
_COLUMNS = 12
_LEAST = 112  # smallest width of a panel in pixels, for the text above it
_LONGEST = 1024  # largest width or height of a panel in pixels


class Scale(NamedTuple):
    """The common color scale of all heat maps.

    It uses the square root: scores are squared distances, and otherwise one gross defect would make all others dark.

    Attributes:
        low: scores up to this have the coldest color.
        high: scores from this on have the hottest color.
        threshold: the heat above which pixels are anomalous, if known.
    """

    low: float
    high: float
    threshold: float | None = None

    @classmethod
    def of(cls, maps: np.ndarray, pixel_threshold: float | None = None) -> "Scale":
        """The scale for the pictures of an evaluation or a prediction.

        Args:
            maps: float32 [count, height, width].
            pixel_threshold: the heat above which pixels are anomalous; None if unknown, as for an image model.

        Returns:
            A scale from 0 to nine times the threshold, so that the threshold is at a third of the scale for any maps.
            Without a threshold, from the median to the 99.9th percentile of the scores of all pixels, or of 16 million
            of them.
        """
        if pixel_threshold:
            return cls(0.0, 9 * pixel_threshold, pixel_threshold)
        every = math.ceil(np.sqrt(maps.size / 2**24))
        low, high = np.quantile([heat[::every, ::every] for heat in arrays.rows(maps)], [0.5, 0.999])
        return cls(float(low), float(high) if high > low else float(low) + 1.0)

    def level(self, heat: np.ndarray) -> np.ndarray:
        """Scores -> 0 (cold) to 1 (hot)."""
        return np.sqrt(np.clip((heat - self.low) / (self.high - self.low), 0, 1))


def save(
    folder: Path,
    examples: Examples,
    maps: np.ndarray,
    captions: list[str],
    *,
    pixel_threshold: float | None = None,
    report: Report = no_report,
) -> None:
    """Writes heatmaps/DEFECT/NAME.png for each image, and the sheet heatmaps.png.

    Args:
        folder: folder to write to, which is itself written atomically.
        examples: images and masks.
        maps: float32 [count, height, width].
        captions: the text above each heat map.
        pixel_threshold: the heat above which pixels are anomalous, if known, see `Scale.of`.
    """
    scale = Scale.of(maps, pixel_threshold)
    root = folder / "heatmaps"
    has_masks = _any(examples.masks)
    taken: set[Path] = set()
    for index, name in enumerate(track(examples.paths, len(maps), "Drawing heat maps", report)):
        relative = Path(name.removeprefix("test/"))
        path = root / relative.with_suffix(".png")
        if path in taken:  # 000.jpg next to 000.png
            name = f"{relative.name}.png"
            path = path.with_name(name if len(os.fsencode(name)) <= 255 else f"{index}.png")
        taken.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        every = panels(examples.images[index], examples.masks[index], maps[index], scale)
        if index % arrays.in_memory(maps) == 0:
            arrays.release(maps)
            arrays.release(examples.images)
        picture = np.concatenate(every if has_masks else _without_outline(every), 1)
        picture = np.concatenate([_text([captions[index]], picture.shape[1]), picture])
        Image.fromarray(np.concatenate([picture, _legend(scale, picture.shape[1])])).save(path, compress_level=1)
    sheet = _sheet(examples, maps, captions, scale)
    Image.fromarray(sheet).save(folder / "heatmaps.png")


def save_comparison(path: Path, examples: Examples, maps: Mapping[str, np.ndarray]) -> None:
    """Figures 7 to 21: a column for each image, with rows for the input, the mask and several methods' heat maps.

    Args:
        path: the PNG to write.
        examples: images and masks.
        maps: float32 [count, height, width] by method; each method has its own color scale.
    """
    scales = {name: Scale.of(heats) for name, heats in maps.items()}
    columns = []
    for index, (image, mask) in enumerate(zip(examples.images, examples.masks, strict=True)):
        every = [panels(image, mask, heats[index], scales[name]) for name, heats in maps.items()]
        columns.append(np.concatenate([every[0][0], every[0][1], *(overlay for *_, overlay in every)]))
    labels = [f"{defect or 'unlabeled'}" for defect in examples.defects]
    sheet = np.concatenate([_text(labels, columns[0].shape[1]), np.concatenate(columns, axis=1)])
    width = sheet.shape[1]
    legends = [
        strip
        for row, (name, scale) in enumerate(scales.items(), 3)
        for strip in (_text([f"row {row}: {name}"], width), _legend(scale, width))
    ]
    Image.fromarray(np.concatenate([sheet, *legends])).save(path)


def panels(
    image: np.ndarray, mask: np.ndarray | None, heat: np.ndarray, scale: Scale
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Input, input with the mask's outline, heat map, and overlay on the input; uint8 [height, width, 3] each.

    They are enlarged if they are too small for a text above them, and reduced if they are very large.
    """
    image, heat = reduced(image, _LONGEST), reduced(heat, _LONGEST)
    outlined = image.copy()
    if mask is not None:
        mask = reduced(mask.astype(np.float32), _LONGEST) > 0
        outlined[mask & ~ndimage.binary_erosion(mask, iterations=2)] = _RED
    colors, overlay = colored(image, heat, scale)
    times = math.ceil(_LEAST / image.shape[1])
    image, outlined, colors, overlay = (
        np.repeat(np.repeat(panel, times, axis=0), times, axis=1) for panel in (image, outlined, colors, overlay)
    )
    return image, outlined, colors, overlay


def reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    """An image or a heat map, reduced by averaging if its height or width exceeds `longest`."""
    if max(pixels.shape[:2]) <= longest:
        return pixels
    picture = Image.fromarray(pixels)
    picture.thumbnail((longest, longest), Image.Resampling.BOX)
    return np.asarray(picture)


def _any(masks: Sequence[np.ndarray | None]) -> bool:
    """Whether any mask marks anything."""
    return any(mask is not None and mask.any() for mask in masks)


def _without_outline(every: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All `panels` except the second."""
    return [every[0], *every[2:]]


def colored(image: np.ndarray, heat: np.ndarray, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """A heat map in colors, and its overlay on the gray image; uint8 [height, width, 3]."""
    level = scale.level(heat)
    colors = _COLORS[(255 * level).astype(np.uint8)]
    opacity = 0.15 + 0.5 * level[:, :, None]
    grey = image.mean(axis=2, keepdims=True)
    return colors, (opacity * colors + (1 - opacity) * grey).astype(np.uint8)


def _sheet(examples: Examples, maps: np.ndarray, captions: list[str], scale: Scale) -> np.ndarray:
    """A column for each of up to twelve images, or fewer if they are wide, covering every kind of defect in turn.

    A column has the input, the heat map and the overlay; if any of the images has a mask, also the input with the
    mask's outline.
    """
    height, width = maps.shape[1:]
    chosen = _chosen(examples.defects, max(3, round(_COLUMNS * min(1, height / width))))
    masks = [examples.masks[index] for index in chosen]
    has_masks, stacks = _any(masks), []
    for index, mask in zip(chosen, masks, strict=True):
        every = panels(examples.images[index], mask, maps[index], scale)
        stacks.append(np.concatenate(every if has_masks else _without_outline(every)))
    width = stacks[0].shape[1]
    columns = np.concatenate([_text([_label(examples, i, captions[i]) for i in chosen], width), np.hstack(stacks)])
    return np.concatenate([columns, _legend(scale, columns.shape[1])])


def _label(examples: Examples, index: int, caption: str) -> str:
    """The file, its kind unless the file's folders give it, and the caption."""
    path, kind = Path(examples.paths[index]), examples.defects[index] or "unlabeled"
    name = str(path).removeprefix("test/")
    return f"{name}  {caption}" if kind in path.parts else f"{kind}: {name}  {caption}"


def _chosen(defects: list[str], columns: int) -> list[int]:
    """Indices of `columns` images for the sheet, normal ones first."""
    kinds = sorted(set(defects), key=lambda kind: (kind != GOOD, kind))
    places = {kind: [index for index, defect in enumerate(defects) if defect == kind] for kind in kinds}
    share: collections.Counter[str] = collections.Counter()
    while sum(share.values()) < min(columns, len(defects)):
        for kind in reversed(kinds):  # a normal image comes last, if there is room
            if share[kind] < len(places[kind]) and sum(share.values()) < columns:
                share[kind] += 1
    return [places[kind][i] for kind in kinds for i in np.linspace(0, len(places[kind]) - 1, share[kind]).astype(int)]


def _text(texts: list[str], width: int) -> np.ndarray:
    """A strip with a text in each column, wrapped to the column's width."""
    wrapped = [drawing.wrapped(drawing.label(text), width - 6) for text in texts]
    height = drawing.LINE * max(map(len, wrapped)) + 4
    strip = Image.new("RGB", (width * len(texts), height), "white")
    draw = ImageDraw.Draw(strip)
    for column, lines in enumerate(wrapped):
        for row, line in enumerate(lines):
            draw.text((width * column + 3, 2 + drawing.LINE * row), line, fill="black", font=drawing.font(line))
    return np.asarray(strip)


def _legend(scale: Scale, width: int) -> np.ndarray:
    """A color bar with scores."""
    length, left = min(width - 24, 360), 12
    scores = [(0.0, f"heat {scale.low:.4g}"), (1.0, f"{scale.high:.4g}")]
    strip = np.full((12, width, 3), 255, np.uint8)
    strip[2:, left : left + length] = _COLORS[np.linspace(0, 255, length).astype(int)]
    if length > 180 and scale.threshold is None:
        scores.insert(1, (0.5, f"{scale.low + (scale.high - scale.low) / 4:.4g}"))
    elif length > 180 and scale.threshold is not None:
        part = float(scale.level(np.array(scale.threshold)))
        scores.insert(1, (part, f"threshold {scale.threshold:.4g}"))
        strip[2:, left + round(part * (length - 1))] = 0
    below = Image.new("RGB", (width, drawing.LINE + 4), "white")
    draw = ImageDraw.Draw(below)
    for part, text in scores:
        font = drawing.font(text)
        # The first number starts where the colors start, and the last ends where they end.
        draw.text((left + part * (length - font.getlength(text)), 1), text, fill="black", font=font)
    return np.concatenate([strip, np.asarray(below)])
