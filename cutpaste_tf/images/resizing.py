"""Resizes images."""

import numpy as np
from PIL import Image

from cutpaste_tf import arrays


def resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Antialiased bilinear resizing: first the width, rounding to integer gray levels, then the height.

    This takes two calls because the order within a single call depends on the version of Pillow, and some pixels would
    differ by one gray level.
    """
    narrowed = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return narrowed.resize((width, height), Image.Resampling.BILINEAR)


def thumbnails(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Images uint8 [count, height, width, 3] resized to uint8 [count, size, size, 3], antialiased bilinear."""
    result = arrays.allocate(len(images), (size, size, 3))
    for index, image in enumerate(arrays.rows(images)):
        result[index] = np.asarray(resize(Image.fromarray(image), size, size))
    arrays.release(result)
    return result
