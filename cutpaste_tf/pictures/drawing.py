"""Matplotlib as our pictures need it, whatever the user's environment and settings say; and fonts for any name."""

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

from cutpaste_tf.files import write_whole

LINE = 13  # pixels from one line of `font` to the next
# Tried in turn for what the first has no letters for, where they are installed.
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei",
          "Noto Sans Arabic", "Noto Sans Devanagari", "Arial Unicode MS")  # fmt: skip


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's own settings, not the user's; letters that no font has are drawn as boxes without a warning each."""
    with matplotlib.style.context("default", after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        matplotlib.rcParams["font.family"] = list(_installed())
        matplotlib.rcParams["text.usetex"] = False
        yield


def subplots(rows: int, columns: int, *, figsize: tuple[float, float], sharex: bool = False) -> tuple[Figure, Any]:
    """A figure, without a window, and its axes [rows, columns]."""
    figure = Figure(figsize=figsize)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_whole(path, buffer.getvalue())


def label(text: str) -> str:
    """A name as one line."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def font(text: str, size: int = 10) -> ImageFont.FreeTypeFont:
    """A font for Pillow, of a size in pixels, that has the letters of a text, as far as one is installed."""
    letters = {ord(letter) for letter in text}
    files = _installed()
    return _font(next((file for file in files.values() if letters <= _letters(file)), files[_FONTS[0]]), size)


_font = functools.cache(ImageFont.truetype)


def wrapped(text: str, width: float, size: int = 10) -> list[str]:
    """A text in lines of at most so many pixels, broken between words, and within one that is longer."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if font(joined, size).getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            longer = lines[-1] + letter
            if lines[-1] and font(longer, size).getlength(longer) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def fitted(text: str, inches: float, points: float) -> str:
    """A text of Matplotlib's, in lines that are no longer than so many inches."""
    return "\n".join(wrapped(label(text), 100 * 72 * inches / points, 100))  # large, since small sizes are rounded


def digits(scores: np.ndarray) -> int:
    """Decimals that show three digits of the scores' range; so they are written in every picture and on the page."""
    extent = float(np.ptp(scores)) if len(scores) else 0.0
    return min(max(3 - math.ceil(math.log10(extent)), 0), 6) if extent > 0 else 1


@functools.cache
def _installed() -> dict[str, str]:
    """Name -> file of our fonts; the first comes with Matplotlib."""
    known = {
        entry.name: entry.fname
        for entry in fontManager.ttflist
        if (entry.style, entry.stretch) == ("normal", "normal") and entry.weight == 400
    }
    return {name: known[name] for name in _FONTS if name in known}


@functools.cache
def _letters(file: str) -> frozenset[int]:
    return frozenset(FT2Font(file).get_charmap())
