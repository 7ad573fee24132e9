"""How images are resized."""

import numpy as np
from PIL import Image

from cutpaste_tf import arrays


def resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resizes antialiased bilinear: first the width, rounding to whole grey levels, then the height.

    Two calls, since versions of Pillow differ in the order in which one call does the two, and with it by a grey
    level here and there.
    """
    narrowed = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return narrowed.resize((width, height), Image.Resampling.BILINEAR)


def thumbnails(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Images uint8 [count, side, side, 3] reduced to uint8 [count, size, size, 3], antialiased bilinear."""
    result = arrays.allocate(len(images), (size, size, 3))
    for index, image in enumerate(arrays.rows(images)):
        result[index] = np.asarray(resize(Image.fromarray(image), size, size))
    arrays.release(result)
    return result
