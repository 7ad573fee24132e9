"""Configures Matplotlib independently of the user's environment and settings, and finds fonts for any name."""

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
# Fallbacks, if installed, for letters that the first font lacks.
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei",
          "Noto Sans Arabic", "Noto Sans Devanagari", "Arial Unicode MS")  # fmt: skip


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's defaults instead of the user's settings; letters without a font become boxes without warnings."""
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
    """Writes a PNG atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_whole(path, buffer.getvalue())


def label(text: str) -> str:
    """A name as one line."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def font(text: str, size: int = 10) -> ImageFont.FreeTypeFont:
    """A font for Pillow, of a size in pixels, that has all letters of a text if such a font is installed."""
    letters = {ord(letter) for letter in text}
    files = _installed()
    return _font(next((file for file in files.values() if letters <= _letters(file)), files[_FONTS[0]]), size)


_font = functools.cache(ImageFont.truetype)


def wrapped(text: str, width: float, size: int = 10) -> list[str]:
    """Wraps a text to a width in pixels, between words or within words that are too long."""
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
    """Wraps a text for Matplotlib to a width in inches."""
    return "\n".join(
        wrapped(label(text), 100 * 72 * inches / points, 100)
    )  # a large size, since small ones are rounded


def digits(scores: np.ndarray) -> int:
    """Number of decimals that shows three digits of the range of the middle 80 % of the scores.

    A single distant score does not widen this range. All plots and the page use this number.
    """
    low, high = np.quantile(scores, [0.1, 0.9]) if len(scores) else (0.0, 0.0)
    extent = float(high - low) or (float(np.ptp(scores)) if len(scores) else 0.0)
    return min(max(3 - math.ceil(math.log10(extent)), 0), 6) if extent > 0 else 1


class ScoreAxis(NamedTuple):
    """An axis of scores that resolves the scores of normal images, however far away other scores are.

    It is linear unless the normal images would then share a bar or two. In that case it is the inverse hyperbolic sine:
    linear around their median, logarithmic far from it.

    Attributes:
        low: score at its start.
        high: score at its end.
        middle: median of the normal images' scores, or of all scores if few images are known to be normal.
        width: width of the interval that contains half of these scores; 0 for a linear axis.
    """

    low: float
    high: float
    middle: float = 0.0
    width: float = 0.0

    @classmethod
    def of(cls, scores: np.ndarray, is_normal: np.ndarray, threshold: float | None = None) -> "ScoreAxis":
        """The axis for at least one score, [count], and a threshold; `is_normal`, bool [count], may be all False."""
        every = scores if threshold is None else np.append(scores, threshold)
        low, high = float(every.min()), float(every.max())
        most = scores[is_normal] if np.sum(is_normal) > 3 else scores
        quarter, middle, other = np.quantile(most, [0.25, 0.5, 0.75])
        width = float(other - quarter) or (high - low) / 1000
        is_straight = len(most) <= 3 or width > (high - low) / 20
        return cls(low, high) if is_straight else cls(low, high, float(middle), width)

    def places(self, scores: np.ndarray | float) -> np.ndarray:
        """Scores -> positions from 0 at the start to 1 at the end."""
        if self.high <= self.low:
            return np.full_like(scores, 0.5, np.float64)
        begin, end = self._stretched(self.low), self._stretched(self.high)
        return (self._stretched(scores) - begin) / (end - begin)

    def ticks(self) -> tuple[np.ndarray, np.ndarray]:
        """Five positions and their scores, or one for an axis without extent."""
        if self.high <= self.low:
            return np.array([0.5]), np.array([self.low])
        places = np.linspace(0, 1, 5)
        begin, end = self._stretched(self.low), self._stretched(self.high)
        stretched = begin + places * (end - begin)
        return places, self.middle + self.width * np.sinh(stretched) if self.width else stretched

    def _stretched(self, scores: np.ndarray | float) -> np.ndarray:
        return np.arcsinh((np.asarray(scores) - self.middle) / self.width) if self.width else np.asarray(scores)


@functools.cache
def _installed() -> dict[str, str]:
    """Name -> file of our fonts; the first comes with Matplotlib."""
    available = {
        entry.name: entry.fname
        for entry in fontManager.ttflist
        if (entry.style, entry.stretch) == ("normal", "normal") and entry.weight == 400
    }
    return {name: available[name] for name in _FONTS if name in available}


@functools.cache
def _letters(file: str) -> frozenset[int]:
    return frozenset(FT2Font(file).get_charmap())
