"""Resizes images."""

import numpy as np
from PIL import Image

from cutpaste_tf import arrays
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.sizes import Size


def resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Antialiased bilinear resizing: first the width, rounding to integer gray levels, then the height.

    This takes two calls because the order within a single call depends on the version of Pillow, and some pixels would
    differ by one gray level.
    """
    narrowed = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return narrowed.resize((width, height), Image.Resampling.BILINEAR)


def resized(images: np.ndarray, size: Size) -> np.ndarray:
    """RGB images uint8 [count, height, width, 3] of any size, in this size (height, width).

    Raises:
        InputError: they have another shape or type.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not all(images.shape[1:]):
        raise InputError(f"an image is {images.dtype} {list(images.shape[1:])}; expected RGB, uint8 [height, width, 3]")
    if images.shape[1:3] == size:
        return images
    height, width = size
    return np.stack([np.asarray(resize(Image.fromarray(image), width, height)) for image in images])


def thumbnails(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Images uint8 [count, height, width, 3] resized to uint8 [count, size, size, 3], antialiased bilinear."""
    result = arrays.allocate(len(images), (size, size, 3))
    for index, image in enumerate(arrays.rows(images)):
        result[index] = np.asarray(resize(Image.fromarray(image), size, size))
    arrays.release(result)
    return result
