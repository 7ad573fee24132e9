"""Encoded images give the pixels that our own reading gives, or are refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cutpaste_tf.exporting import decoding
from cutpaste_tf.images import decoding as reading

PIXELS = np.asarray(Image.effect_mandelbrot((70, 51), (-2, -1.2, 1, 1.2), 40).convert("RGB")).copy()
PIXELS[..., 1] = np.random.default_rng(0).integers(0, 256, PIXELS.shape[:2])
IMAGE = Image.fromarray(PIXELS)


@pytest.fixture(scope="module")
def decode():
    return tf.function(decoding.decode, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(kind, orientation, *, order=b"<"):
    exif = Image.Exif()
    exif.endian = order.decode()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    return encoded(IMAGE, kind, exif=exif.tobytes())


def transparent(alpha):
    image = IMAGE.convert("RGBA")
    image.putalpha(alpha)
    return image


def grey_png(bits):
    """Written by hand: Pillow writes no grey of 2 or 4 bits."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = np.random.default_rng(bits).integers(0, 256, (20, 1 + 8 * bits), np.uint8)
    rows[:, 0] = 0  # no filter
    header = struct.pack(">IIBBBBB", 64, 20, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.tobytes())), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


GOOD = {
    "JPEG": encoded(IMAGE, "JPEG"),
    "JPEG, full chroma": encoded(IMAGE, "JPEG", quality=97, subsampling=0),
    "JPEG, half chroma": encoded(IMAGE, "JPEG", quality=60, subsampling=1),
    "progressive JPEG": encoded(IMAGE, "JPEG", quality=85, progressive=True),
    "grey JPEG": encoded(IMAGE.convert("L"), "JPEG"),
    "upright JPEG": turned("JPEG", 1),
    "PNG": encoded(IMAGE, "PNG"),
    "grey PNG": encoded(IMAGE.convert("L"), "PNG"),
    "PNG of 1 bit": encoded(IMAGE.convert("1"), "PNG"),
    "grey PNG of 2 bits": grey_png(2),
    "grey PNG of 4 bits": grey_png(4),
    "PNG with a palette": encoded(IMAGE.quantize(200), "PNG"),
    "PNG with a small palette": encoded(IMAGE.quantize(4), "PNG", bits=2),
    "opaque RGBA PNG": encoded(transparent(255), "PNG"),
    "opaque grey PNG with alpha": encoded(transparent(255).convert("LA"), "PNG"),
    "upright PNG": turned("PNG", 1),
    "BMP": encoded(IMAGE, "BMP"),
    "grey BMP": encoded(IMAGE.convert("L"), "BMP"),
}


@pytest.mark.parametrize("name", GOOD)
def test_pixels_are_those_of_our_reading(name, decode):
    expected = reading.decode(GOOD[name], name, white=255, background=(0, 0, 0), max_megapixels=1).image
    np.testing.assert_array_equal(decode(GOOD[name]), expected)


BAD = {
    "turned JPEG": (turned("JPEG", 6), "turned by its EXIF"),
    "JPEG turned in the other order of bytes": (turned("JPEG", 3, order=b">"), "turned by its EXIF"),
    "turned PNG": (turned("PNG", 8), "turned by its EXIF"),
    "JPEG turned by XMP": (encoded(IMAGE, "JPEG", xmp=b'<x tiff:Orientation="6"/>'), "turned by its EXIF"),
    "CMYK JPEG": (encoded(IMAGE.convert("CMYK"), "JPEG"), "CMYK"),
    "16-bit PNG": (encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "PNG"), "has 16 bits"),
    "transparent PNG": (encoded(transparent(IMAGE.convert("L")), "PNG"), "transparent in places"),
    "PNG with a transparent color": (encoded(IMAGE.quantize(9), "PNG", transparency=3), "transparent in places"),
    "PNG with a small palette and a transparent color": (
        encoded(IMAGE.quantize(4), "PNG", bits=2, transparency=b"\3\3\3\3"),
        "transparent in places",
    ),
    "animated PNG": (encoded(IMAGE, "PNG", save_all=True, append_images=[IMAGE.rotate(90)]), "several frames"),
    "BMP with a palette": (encoded(IMAGE.quantize(256), "BMP"), "neither plain grey"),
    "BMP of 1 bit": (encoded(IMAGE.convert("1"), "BMP"), "neither plain grey"),
    "BMP of 32 bits": (encoded(transparent(255), "BMP"), "neither plain grey"),
    "TIFF": (encoded(IMAGE, "TIFF"), "no JPEG, PNG or BMP"),
    "GIF": (encoded(IMAGE, "GIF"), "no JPEG, PNG or BMP"),
    "WebP": (encoded(IMAGE, "WEBP"), "no JPEG, PNG or BMP"),
    "text": (b"hello", "no JPEG, PNG or BMP"),
    "nothing": (b"", "no JPEG, PNG or BMP"),
    "half a JPEG": (GOOD["JPEG"][:900], "JPEG"),
    "half a PNG": (GOOD["PNG"][:900], "PNG"),
    "half a BMP": (GOOD["BMP"][:900], "BMP|size|bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_would_come_out_otherwise_is_refused(name, decode):
    content, message = BAD[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(content)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_our_reading_turns_is_refused(kind, orientation, decode):
    for order in (b"<", b">"):
        content = turned(kind, orientation, order=order)
        assert reading.decode(content, kind, white=255, background=(0, 0, 0), max_megapixels=1).turned
        with pytest.raises(tf.errors.InvalidArgumentError, match="turned by its EXIF"):
            decode(content)
