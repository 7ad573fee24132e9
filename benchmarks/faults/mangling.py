"""Damaged files from a seeded generator: intact ones are truncated, changed, or replaced."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Rng = np.random.Generator

_ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 2**70, "", "x", "\ud83d", "../../x", [], {}, [[1]], {"a": 1},
    "9" * 5000, "<script>alert(1)</script>",
)  # fmt: skip
_NAMES = (
    "a b.png", "a'b.png", 'a"b.png', "a\nb.png", "a\tb.png", "-a.png", "--output_dir=x.png", "a%s%d.png", "a,b.png",
    "a;b.png", "$(touch x).png", "`x`.png", "<script>alert(1)</script>.png".replace("/", "\u2215"), "&amp;.png",
    "\u00e4\u00f6\u00fc.png", "\u65e5\u672c.png", "e\u0301.png", "\U0001f600.png", "\u202egnp.exe.png", "A.PNG",
    "a.b.c.png",
    "a\\b.png", "CON.png", "a*.png", "[a].png", "{a}.png", "#a.png", "a=b.png", "\x01.png", "\x7f.png",
    "x" * 250 + ".png",
    "\udcff\udcfe.png",
)  # fmt: skip


def cut(rng: Rng, content: bytes) -> bytes:
    """The beginning of a file."""
    return content[: int(len(content) * rng.choice([0, rng.random(), 1 - rng.random() * 0.01]))]


def zeroed(rng: Rng, content: bytes) -> bytes:
    """A part of it is zero, as after a power failure."""
    first, last = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:first] + bytes(last - first) + content[last:]


def flipped(rng: Rng, content: bytes) -> bytes:
    """Some bits are flipped."""
    changed = np.frombuffer(content, np.uint8).copy()
    for place in rng.integers(0, len(changed), 2 ** rng.integers(0, 7)):
        changed[place] ^= 1 << rng.integers(0, 8)
    return changed.tobytes()


def lying(rng: Rng, content: bytes) -> bytes:
    """Some of the first 64 bytes are others."""
    changed = bytearray(content)
    for place in rng.integers(0, min(64, len(changed)), rng.integers(1, 9)):
        changed[place] = rng.integers(0, 256)
    return bytes(changed)


def longer(rng: Rng, content: bytes) -> bytes:
    """Something follows the file, or it is there twice."""
    return content + (content if rng.random() < 0.5 else rng.bytes(1000))


def other(rng: Rng, content: bytes) -> bytes:
    """Content of another type under its name."""
    return bytes(others()[rng.integers(len(others()))] if rng.random() < 0.8 else rng.bytes(1000))


def others() -> list[bytes]:
    """Files of several types."""
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(6.0))
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../outside.npy", array.getvalue())
    pickled = pickle.dumps(Path("x"))
    page = b"<html><body>404 Not Found</body></html>"
    return [
        b"",
        b"\n",
        page,
        b"{}",
        b"[]",
        b"null",
        array.getvalue(),
        archive.getvalue(),
        pickled,
        b"\x89HDF\r\n\x1a\n",
    ]


ANY: tuple[Callable[[Rng, bytes], bytes], ...] = (cut, zeroed, flipped, lying, longer, other)


def json_(rng: Rng, content: bytes) -> bytes:
    """JSON with a value that is missing, odd, or of another type; or JSON that is none."""
    values = json.loads(content)
    how = rng.integers(8)
    if how == 0:
        return b"[" * 100_000
    if how == 1:
        return b"\xff\xfe" + content
    if how == 2:
        return content[:-3] + b', "seed": 1}'
    places = [*_places(values)]
    for _ in range(rng.integers(1, 3)):
        parent, key = places[rng.integers(len(places))]
        if isinstance(parent, dict) and rng.random() < 0.3:
            parent.pop(key, None)
        elif isinstance(parent, dict) and rng.random() < 0.2:
            parent[_odd(rng, _NAMES)] = 1
        elif isinstance(parent, dict) or key < len(parent):
            parent[key] = _odd(rng, _ODD_VALUES)
    return json.dumps(values).encode("utf-8", "surrogatepass")


def _odd(rng: Rng, values: tuple[Any, ...]) -> Any:
    return values[rng.integers(len(values))]


def _places(values: Any) -> Any:
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield values, key
        if isinstance(value, dict | list):
            yield from _places(value)


def arrays(rng: Rng, content: bytes) -> bytes:
    """An archive of arrays in which one is missing, or has another type, shape or values."""
    with np.load(io.BytesIO(content)) as opened:
        stored = dict(opened)
    name = [*stored][rng.integers(len(stored))]
    array = stored[name]
    numbers = np.issubdtype(array.dtype, np.number)
    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: array[..., None],
        lambda: array.reshape(-1)[:0],
        lambda: np.zeros(array.shape, object),
        lambda: np.full(array.shape, "x"),
        lambda: np.full(array.shape, np.nan) if numbers else array,
        lambda: np.full(array.shape, np.inf) if numbers else array,
        lambda: array.astype(np.complex64) if numbers else array,
        lambda: array.T if array.ndim > 1 else array[::-1],
        lambda: array[1:] if array.ndim else array,
        lambda: np.zeros((2, *array.shape), array.dtype),
    ]
    changed = changes[rng.integers(len(changes))]()
    stored.pop(name)
    if changed is not None:
        stored[name] = changed
    result = io.BytesIO()
    np.savez(result, **stored)
    return result.getvalue()


def lying_archive(rng: Rng, content: bytes) -> bytes:
    """An archive with a huge array, a huge claim, a name that points outside, or one entry twice."""
    result, how = io.BytesIO(), rng.integers(4)
    with zipfile.ZipFile(io.BytesIO(content)) as opened, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        names = opened.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            data = opened.read(name)
            if name == chosen and how == 0:
                header = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)}
                )
                data = header.getvalue() + data
            if name == chosen and how == 1:
                data = bytes(10**8)  # which takes 100 kB
            archive.writestr(f"../../../{name}" if name == chosen and how == 2 else name, data)
        if how == 3:
            archive.writestr("extra/../../x", b"x")
    return result.getvalue()


def keras_archive(rng: Rng, content: bytes) -> bytes:
    """A Keras archive with one part missing, damaged, or with odd settings."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as opened, zipfile.ZipFile(result, "w") as archive:
        names = opened.namelist()
        chosen, how = names[rng.integers(len(names))], rng.integers(3)
        for name in names:
            data = opened.read(name)
            if name == chosen:
                if how == 0:
                    continue
                data = (
                    json_(rng, data) if name.endswith(".json") and how == 1 else ANY[rng.integers(len(ANY))](rng, data)
                )
            archive.writestr(name, data)
    return result.getvalue()


def image(rng: Rng) -> bytes:
    """A whole image of an odd kind: its mode, size, format or claims."""
    how = rng.integers(12)
    pixels = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    if how < 3:
        modes = ("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
        pixels = pixels.convert("L").convert("I;16") if (mode := _odd(rng, modes)) == "I;16" else _convert(pixels, mode)
    elif how < 6:
        pixels = pixels.resize(_odd(rng, ((1, 1), (1, 30_000), (30_000, 1), (2, 3), (5000, 5000), (31, 33))))
    elif how == 6:
        return _png_claiming(int(rng.choice([100_000, 2**31 - 1])), int(rng.choice([1, 100_000])))
    elif how == 7:
        return _png_bomb()
    elif how == 8:
        result = io.BytesIO()
        pixels.save(result, "GIF", save_all=True, append_images=[pixels.rotate(90)])
        return result.getvalue()
    for suffix in rng.permutation(["PNG", "TIFF", "JPEG", "BMP", "WEBP", "GIF", "PPM", "TGA", "ICO"]):
        result = io.BytesIO()
        try:
            pixels.save(result, str(suffix))
        except (OSError, ValueError, KeyError):  # this format has no such mode
            continue
        return result.getvalue()
    return b""


def _convert(pixels: Image.Image, mode: str) -> Image.Image:
    try:
        return pixels.convert(mode)
    except ValueError:
        return pixels.convert("L").convert(mode)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(100)))
        + _chunk(b"IEND", b"")
    )


def _png_bomb() -> bytes:
    """An image of 1 x 1 px with 300 MB of text, compressed."""
    result = io.BytesIO()
    Image.new("RGB", (40, 40)).save(result, "PNG")
    whole = result.getvalue()
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 * 10**8), 9))
    return whole[:33] + text + whole[33:]


def special_file(rng: Rng, path: Path) -> str:
    """Something that is no file, or a link that leads nowhere, in place of a file; returns what it is."""
    path.unlink(missing_ok=True)
    how = rng.integers(6)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    elif how == 5:
        path.touch(mode=0)
    else:
        path.symlink_to(["/dev/zero", path, "nowhere"][how - 2])
    return ("pipe", "folder", "link to a device", "link to itself", "link to nothing", "empty file")[how]


def odd_name(rng: Rng) -> str:
    """A file name of an odd kind."""
    return str(_odd(rng, _NAMES))
