"""Writes a heat map to files: its values at the image's own size, and an overlay on the image."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from cutpaste_tf.files import write_whole
from cutpaste_tf.images import named_files, regions
from cutpaste_tf.pictures import heat_map_plots
from cutpaste_tf.pictures.heat_map_plots import Scale

FORMATS = ("npy", "png")
_OVERLAY = ".overlay.jpg"
_MOST = 65535  # largest 16-bit value
_LONGEST = 65500  # largest width or height of a JPEG in pixels
_TOGETHER = 2**20  # pixels per batch in coloring, which takes 100 bytes for each


def written(folder: Path) -> list[Path]:
    """The files in a folder that `write` wrote."""
    return [path for end in (*(f".heat.{format}" for format in FORMATS), _OVERLAY) for path in folder.rglob(f"*{end}")]


def write(
    place: Path,
    image: np.ndarray,
    heat: np.ndarray,
    boxes: Iterable[tuple[int, int, int, int]],
    *,
    region: np.ndarray | None = None,
    pixel_threshold: float | None,
    format: str,
) -> dict[str, Any]:
    """Writes PLACE.heat.npy, or PLACE.heat.png, and PLACE.overlay.jpg.

    Args:
        place: the file's name among the results.
        image: uint8 [height, width, 3].
        heat: the map, float32 [height, width], 0 and above; it is resized to the image's size, bilinear.
        boxes: (left, top, width, height) in pixels of the image, drawn on the overlay.
        region: bool, with the map's shape: the part of the image that counts; None: all of it.
        pixel_threshold: the heat above which pixels are anomalous, if known, see `Scale.of`.
        format: one of FORMATS: float32 [height, width]; or 16-bit gray, where 65535 is the map's maximum.

    Returns:
        The columns for the image's row: the paths `heat_map` and `overlay`, and for `png` the heat of 65535.
    """
    height, width = image.shape[:2]
    enlarged = regions.enlarged(heat, (width, height), region)
    raw = named_files.beside(place, f".heat.{format}")
    overlay = named_files.beside(place, _OVERLAY)
    raw.parent.mkdir(parents=True, exist_ok=True)
    written: dict[str, Any] = {"heat_map": str(raw), "overlay": str(overlay)}
    if format == "npy":
        buffer = io.BytesIO()
        np.save(buffer, enlarged)
        content = buffer.getvalue()
    else:
        content, written["heat_of_65535"] = as_png(enlarged)
    write_whole(raw, content)
    write_whole(overlay, _overlay(image, enlarged, boxes, Scale.of(heat[None], pixel_threshold)))
    return written


def as_png(heat: np.ndarray) -> tuple[bytes, float]:
    """A heat map, float32 [height, width], as a PNG in 16-bit grey; and its maximum, which 65535 stands for."""
    largest = max(float(heat.max()), 1e-30)
    note = PngInfo()
    note.add_text("heat_of_65535", repr(largest))
    scaled = np.round(np.clip(heat, 0, None) * (_MOST / largest)).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(scaled).save(buffer, "PNG", pnginfo=note, compress_level=1)
    return buffer.getvalue(), largest


def _overlay(image: np.ndarray, heat: np.ndarray, boxes: Iterable[tuple[int, int, int, int]], scale: Scale) -> bytes:
    """The overlay as a JPEG."""
    rows = max(1, _TOGETHER // image.shape[1])
    parts = [slice(start, start + rows) for start in range(0, len(image), rows)]
    picture = Image.fromarray(
        np.concatenate([heat_map_plots.colored(image[part], heat[part], scale)[1] for part in parts])
    )
    draw = ImageDraw.Draw(picture)
    for left, top, width, height in boxes:
        corners = (left, top, left + width - 1, top + height - 1)
        draw.rectangle(corners, outline=(255, 255, 255), width=max(1, round(max(picture.size) / 300)))
    picture.thumbnail((_LONGEST, _LONGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
