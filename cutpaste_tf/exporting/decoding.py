"""Encoded images -> RGB, as a graph: JPEG, PNG and BMP give the pixels of `images.decoding`, all else is refused.

TensorFlow ignores what EXIF says of an image's orientation, what a palette of a BMP says of its colors, what lies
behind transparent pixels, and how cameras scale more than 8 bits. Where that would count, the image is refused by name.
"""

from __future__ import annotations

from typing import Any

from cutpaste_tf.backend import tf

# A short number of 2 to 8 under EXIF's tag 0x0112, in either order of bytes, also as a long one; or XMP's orientation.
_TURNED = (
    r"(Exif|eXIf)\C*(\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08]\x00"
    r"|\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08]|\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00[\x02-\x08])"
    r"|tiff:Orientation(=.|>)[2-8]"
)
_ANIMATION = r"\x00\x00\x00\x08acTL"  # the chunk of an animated PNG
_RAMP = bytes(value for grey in range(256) for value in (grey, grey, grey, 0))  # the palette of a grey BMP


def decode(content: Any) -> Any:
    """Decodes an image.

    Args:
        content: string scalar, the bytes of a file.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: the image is damaged or of another kind.
    """
    is_jpeg, is_png = (_begins(content, signature) for signature in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
    is_bmp = _begins(content, b"BM")
    known = tf.debugging.Assert(
        is_jpeg | is_png | is_bmp, ["The bytes are no JPEG, PNG or BMP; save the image as one of them."]
    )
    upright = tf.debugging.Assert(
        ~_holds(content, _TURNED), ["The image is turned by its EXIF or XMP data; save it upright."]
    )
    with tf.control_dependencies([known, upright]):
        image = tf.case(
            [(is_jpeg, lambda: _jpeg(content)), (is_png, lambda: _png(content))],
            default=lambda: _bmp(content),
            exclusive=True,
        )
    return tf.ensure_shape(image, [None, None, 3])


def _jpeg(content: Any) -> Any:
    channels = tf.io.extract_jpeg_shape(content)[2]
    check = tf.debugging.Assert(
        (channels == 1) | (channels == 3), ["The JPEG has the colors of printing (CMYK); save it as RGB or grey."]
    )
    with tf.control_dependencies([check]):
        # Of the ways to compute a cosine transform, the one that Pillow takes.
        return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _png(content: Any) -> Any:
    bits = _bytes(content, 24, 1)[0]
    checks = [
        tf.debugging.Assert(bits <= 8, ["The PNG has 16 bits; save it with 8 bits a color."]),
        tf.debugging.Assert(~_holds(content, _ANIMATION), ["The PNG holds several frames; save one of them."]),
    ]
    with tf.control_dependencies(checks):
        image = tf.io.decode_png(content, channels=4)
    # TensorFlow fills in the largest number of so many bits, where the file has no transparency.
    filled_in = (bits < 8) & ~_holds(content, "tRNS")
    full = tf.where(filled_in, tf.bitwise.left_shift(1, bits) - 1, 255)
    opaque = tf.debugging.Assert(
        tf.reduce_all(tf.cast(image[:, :, 3], tf.int32) == full),
        ["The PNG is transparent in places; save it without transparency."],
    )
    with tf.control_dependencies([opaque]):
        return image[:, :, :3]


def _bmp(content: Any) -> Any:
    bits, compression = _bytes(content, 28, 2), _bytes(content, 30, 4)
    plain = tf.reduce_all(compression == 0) & (bits[1] == 0)
    colors = 14 + _bytes(content, 14, 1)[0]  # the palette, behind the headers
    is_grey = plain & (bits[0] == 8) & (tf.strings.substr(content, colors, len(_RAMP)) == _RAMP)
    check = tf.debugging.Assert(
        is_grey | (plain & (bits[0] == 24)),
        ["The BMP is neither plain grey of 8 bits nor RGB of 24 bits; save it as one of them, or as PNG."],
    )
    with tf.control_dependencies([check]):
        return tf.cond(
            is_grey,
            lambda: tf.repeat(tf.io.decode_bmp(content), 3, axis=2),
            lambda: tf.io.decode_bmp(content, channels=3),
        )


def _begins(content: Any, signature: bytes) -> Any:
    # The end of a string that is too short is no error.
    return tf.strings.substr(tf.strings.join([content, b"\0" * len(signature)]), 0, len(signature)) == signature


def _holds(content: Any, pattern: str) -> Any:
    return tf.strings.regex_full_match(content, rf"\C*({pattern})\C*")


def _bytes(content: Any, start: int, count: int) -> Any:
    """Some of the bytes, int32 [count]; zeros behind the end."""
    padded = tf.strings.join([content, b"\0" * (start + count)])
    return tf.cast(tf.io.decode_raw(tf.strings.substr(padded, start, count), tf.uint8), tf.int32)
