"""Turns patch scores into heat maps and image scores (Section 4.2, A.5), without TensorFlow."""

import numpy as np

from cutpaste_tf import arrays
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.scoring import FeatureSettings, HeatMapSettings
from cutpaste_tf.settings.sizes import Size


def upsample(scores: np.ndarray, size: int | Size, features: FeatureSettings, settings: HeatMapSettings) -> np.ndarray:
    """Receptive field upsampling (from FCDD, A.5): spreads each score over its patch with a Gaussian.

    This is a transposed convolution with the stride of the patches and a kernel as large as a patch. The kernel is
    separable, so two matrix products compute it.

    Args:
        scores: anomaly scores of patches [count, rows, columns], 0 for the most normal.
        size: (height, width) of the images, or the side of squares.
        features: extract_size and stride of the patches.
        settings: smoothing_sigma; with normalize_coverage, each pixel is divided by the sum of the kernels that reach
            it. Without it, border pixels, which few patches cover, are damped toward 0.

    Returns:
        float32 [count, height, width], in the unit of the scores; in memory up to 128 MiB, otherwise in a file.
    """
    height, width = sizes.of(size)
    down, across = (spreading(pixels, features, settings) for pixels in (height, width))
    maps = arrays.allocate(len(scores), (height, width), np.float32)
    for index, coarse in enumerate(scores):
        maps[index] = down @ coarse @ across.T
        if index % arrays.in_memory(maps) == 0:
            arrays.release(maps)
    return maps


def spreading(pixels: int, features: FeatureSettings, settings: HeatMapSettings) -> np.ndarray:
    """The matrix with which `upsample` spreads scores along an axis of `pixels` pixels: float64 [pixels, places]."""
    size, stride = features.extract_size, features.stride
    places = (pixels - size) // stride + 1
    offsets = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-0.5 * (offsets / settings.smoothing_sigma) ** 2)
    spread = np.zeros((pixels, places))
    for place in range(places):
        spread[place * stride : place * stride + size, place] = kernel
    if settings.normalize_coverage:
        spread /= np.maximum(spread.sum(axis=1, keepdims=True), 1e-300)  # stride > size leaves pixels uncovered
    else:
        spread *= stride / kernel.sum()  # so that weights sum to 1 on average away from the border
    return spread


def image_scores(patch_scores: np.ndarray, maps: np.ndarray, settings: HeatMapSettings) -> np.ndarray:
    """Anomaly scores float64 [count] of images: the maximum of the patch scores or of the heat map.

    Args:
        patch_scores: [count, rows, columns]; the paper uses their maximum in Figure 1 (`patches`).
        maps: [count, height, width], their heat maps (`map`, the default). A single odd patch then has less influence,
            which was better in 31 of 53 evaluations and worse in 7 (docs/log/localization.md).
        settings: image_score selects one of the two.
    """
    chosen = {"map": maps, "patches": patch_scores}[settings.image_score]
    return np.array([each.max() for each in arrays.rows(chosen)], np.float64)
