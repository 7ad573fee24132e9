"""One image file -> 8-bit RGB, with Pillow. Unsupported files are refused by name, never guessed.

Gray becomes three equal channels. With more than 8 bits, 0..white becomes 0..255 (see `find_white`). Transparency is
composited on a color. EXIF rotation is applied. LAB is converted by its definition; other modes are refused.
"""

import contextlib
import importlib
import io
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from cutpaste_tf import parallel
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders

WHITES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
_ORIENTATION = 0x0112  # EXIF
_SIDEWAYS = (5, 6, 7, 8)  # its values for a turn by 90 degrees
_ROOM = parallel.Room(400e6)  # bytes of decoded images in memory at a time
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16L", "I;16B", "I;16N")

# A large photograph takes one block, which goes back to the system when it is freed; threads would keep smaller
# blocks. Pillow reads the variable on import.
if "PILLOW_BLOCK_SIZE" not in os.environ:
    Image.core.set_block_size(1 << 26)
with contextlib.suppress(ImportError):  # lets Pillow read HEIC
    importlib.import_module("pillow_heif").register_heif_opener()


class _Limit:
    """Disables Pillow's limit on pixels while a file is open; `--max_megapixels` replaces it.

    Pillow has one limit for all threads: the first to open a file removes it, and the last one restores it.
    """

    def __init__(self) -> None:
        self._lock, self._open, self._limit = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self._lock:
            if not self._open:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                Image.MAX_IMAGE_PIXELS = self._limit


_no_limit = _Limit()


class Decoded(NamedTuple):
    """An image that was read.

    Attributes:
        image: 8-bit RGB, upright.
        kind: the format of its pixels, such as `16-bit gray`.
        turned: whether EXIF rotated or mirrored it.
    """

    image: Image.Image
    kind: str
    turned: bool


@contextlib.contextmanager
def opened(source: Path | bytes, name: str, max_megapixels: float) -> Iterator[Image.Image]:
    """An image that Pillow has opened but not decoded.

    Args:
        source: the file, or its content.
        name: for messages.
        max_megapixels: largest size, in 10^6 pixels.

    Raises:
        InputError: it is not an image, is damaged, is too large, or holds several images; also if the block fails to
            decode it.
    """
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise InputError(f"{name} is not a file but a {'folder' if source.is_dir() else 'pipe or a device'}.")
    try:
        with _no_limit, Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > max_megapixels:
                raise InputError(
                    f"{name} has {image.width} x {image.height} pixels ({megapixels:.1f} million), more than "
                    f"--max_megapixels={max_megapixels:g}; raise the limit or shrink the image."
                )
            # Phones write MPO files as .jpg; all images in one after the first are previews of it.
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if count > 1:
                raise InputError(f"{name} holds {count} pages or frames; save each as a separate file.")
            yield image
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"{name} cannot be read: there is no such file.") from None
    except Exception as error:  # Pillow raises all kinds of exceptions on damaged files
        if isinstance(source, Path) and (refusal := folders.refusal(source)):
            raise InputError(refusal) from None
        # Pillow's own words would name the file once more, or the address of its content.
        reason = "its format is not known" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{name} cannot be read as an image ({reason}); repair or remove it.") from None


@contextlib.contextmanager
def room(source: Path | bytes) -> Iterator[None]:
    """Waits until there is memory to decode an image, and reserves it during the block, see `parallel.Room`.

    Otherwise a machine would hold as many large photographs at a time as it has cores.
    """
    try:
        if isinstance(source, Path) and not source.is_file():  # a pipe would wait for its writer
            raise FileNotFoundError(source)
        with _no_limit, Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            # As Pillow stores them, with the copies made on the way to RGB.
            each = 24 if is_deep(image) else {"RGB": 4, "L": 5, "1": 5}.get(image.mode, 16)
            size = image.width * image.height * each
    except Exception:  # decoding it will report the error
        size = 0
    with _ROOM.take(size):
        yield


def size(source: Path | bytes, name: str, max_megapixels: float) -> tuple[int, int]:
    """(width, height) of an image as `decode` returns it, from the file's header; raises what `opened` raises."""
    with opened(source, name, max_megapixels) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def decode(
    source: Path | bytes, name: str, *, white: int, background: tuple[int, ...], max_megapixels: float
) -> Decoded:
    """Reads an image.

    Args:
        source: the file, or its content.
        name: for messages.
        white: value that becomes 255, in files with more than 8 bits.
        background: RGB 0..255, shown behind transparent pixels.
        max_megapixels: see `opened`.

    Raises:
        InputError: as `opened`; a pixel is brighter than white; or the file's mode is not supported.
    """
    with opened(source, name, max_megapixels) as image:
        deep, turned = is_deep(image), _orientation(image) != 1
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # copying a large photograph takes half as long as decoding it
    _check_mode(image, name)
    color = "gray" if image.mode.startswith(("L", "I;16", "1")) and image.mode != "LAB" else image.mode
    kind = "RGB" if color.startswith("RGB") else color
    kind = f"{16 if deep else 8}-bit {kind}{' with transparency' if image.has_transparency_data else ''}"
    if deep:
        image = _reduced(image, name, white)
    return Decoded(_to_rgb(image, name, background), kind, turned)


def find_white(sources: Iterable[tuple[Path | bytes, str]], max_megapixels: float) -> int:
    """The smallest of WHITES that no pixel exceeds in the files with more than 8 bits; 255 if there are none.

    Cameras with 10, 12 or 14 bits store their values in 16-bit files, which do not say how many bits are used.
    """

    def brightest(named: tuple[Path | bytes, str]) -> int:
        source, name = named
        with opened(source, name, max_megapixels) as image:
            if not is_deep(image):
                return 0
            with room(source):
                image.load()
                _check_mode(image, name)
                # Pillow keeps the upper 8 bits of a 16-bit color: 15 means 3840 to 4095.
                pixels = np.asarray(image)
                return int(pixels.max()) if pixels.dtype != np.uint8 else 256 * int(pixels.max()) + 255

    return _next_white(max(parallel.in_order(brightest, sources), default=0))


def is_deep(image: Image.Image) -> bool:
    """Whether an opened file has more than 8 bits. Only the raw mode shows it, since decoding reduces color to 8."""
    return image.mode.startswith("I;16") or any("16" in str(tile.args) for tile in image.tile)  # pyright: ignore[reportAttributeAccessIssue]


def refuse_turned(image: Image.Image, name: str) -> None:
    """Refuses an opened file that EXIF rotates.

    Raises:
        InputError: EXIF rotates it.
    """
    if _orientation(image) != 1:
        raise InputError(f"{name} is rotated by its EXIF data; save it upright so that image and mask match.")


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION) or 1


def _check_mode(image: Image.Image, name: str) -> None:
    if image.mode in ("I", "F"):
        raise InputError(f"{name} has 32-bit pixels, whose black and white are unknown; save it with 8 or 16 bits.")
    if image.mode not in _MODES:
        raise InputError(f"{name} has the color mode {image.mode}, which is not supported; save it as gray or RGB.")


def _reduced(image: Image.Image, name: str, white: int) -> Image.Image:
    """Converts an image with more than 8 bits to 8 bits."""
    if not image.mode.startswith("I;16"):  # color; Pillow has kept the upper 8 of its 16 bits
        if white != 65535:
            raise InputError(
                f"{name} has 16-bit colors, of which only the upper 8 bits are read. Their white must be 65535, not "
                f"{white}; save it with 8 bits per color, or give --white=65535 if the image is merely dark."
            )
        return image
    if "transparency" in image.info:
        raise InputError(f"{name} has 16 bits and a transparent gray; save it without transparency.")
    pixels = np.asarray(image).astype(np.float64)
    if pixels.max() > white:
        raise InputError(
            f"{name} has pixels up to {pixels.max():.0f}, brighter than the training images' white of {white}; use "
            f"images taken with the same camera settings, or train with --white={_next_white(pixels.max())}."
        )
    return Image.fromarray(np.round(pixels * (255 / white)).astype(np.uint8))


def _next_white(value: float) -> int:
    return next(white for white in WHITES if value <= white)


def _to_rgb(image: Image.Image, name: str, background: tuple[int, ...]) -> Image.Image:
    if image.has_transparency_data:
        behind = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        try:
            converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
        except ImageCms.PyCMSError as error:
            raise InputError(f"{name} is a LAB image that cannot be converted ({error}); save it as RGB.") from None
        assert converted is not None  # it is None only for an in-place transformation
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy
