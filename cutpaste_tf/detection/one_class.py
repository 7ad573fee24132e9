"""The one-class classifier of Section 2.3: densities of features, and what they say of patches.

Beside each density stand the scores of the images it was fitted to by densities that do not know them, which is how
other normal images will score (calibration.py).
"""

import math

import numpy as np

from cutpaste_tf.density import densities, patch_density
from cutpaste_tf.density.density import Density
from cutpaste_tf.density.patch_density import PatchDensity
from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.dense import PatchEmbedder
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.progress import Report, hush, track
from cutpaste_tf.settings.density import DensitySettings

# Bytes of patch features that are scored together: 19 images of 3,249 locations and 512 dimensions, or one larger one.
_TOGETHER = 2**27


def fit_images(train: Embeddings, settings: DensitySettings, *, report: Report = hush) -> tuple[Density, np.ndarray]:
    """The density of features of normal images, and their scores by densities that do not know them.

    Args:
        train: what is kept of the images.
        settings: of the density.
        report: takes a line for the user.

    Returns:
        The density; scores float64 [n], none where the images are too few for that.

    Raises:
        InputError: the density cannot be fitted, or the images are one group.
    """
    groups = calibration.groups(train.paths, settings.group_by)
    density = densities.build(settings).fit(train.features)
    try:
        return density, -density.held_out(train.features, groups)
    except InputError as error:  # without some of the images
        report(f"No threshold can be given: {error}")
        return density, np.empty(0)


def fit_patches(
    embed_patches: PatchEmbedder, examples: Examples, settings: DensitySettings, *, report: Report
) -> tuple[PatchDensity, np.ndarray]:
    """The density of patches of normal images, and scores of their patches by densities that do not know the image.

    Args:
        embed_patches: as in `score_patches`.
        examples: the images, of `embed_patches`' side.
        settings: of the density.
        report: takes a line for the user.

    Returns:
        The density; scores float32 [n, places, places], see `PatchDensity.held_out`.
    """
    images, groups = examples.images, calibration.groups(examples.paths, settings.group_by)
    features = track(embed_patches.each(images), len(images), "Patches of images", report)
    density = patch_density.build(settings).fit(features, len(images), groups)
    side = math.isqrt(density.held_out.shape[-1])
    return density, density.held_out.reshape(-1, side, side)


def score_patches(
    embed_patches: PatchEmbedder, density: PatchDensity, images: np.ndarray, *, report: Report = hush
) -> np.ndarray:
    """Anomaly scores of all patches of images.

    Args:
        embed_patches: makes the features of patches that the density was fitted to, as of `dense.function`.
        density: of patches.
        images: uint8 [count, side, side, 3], at least one.
        report: takes a line for the user now and then.

    Returns:
        float32 [count, places, places]: negative log density, counted from the density's peak: 0 is the most normal.
    """
    parts: list[np.ndarray] = []
    held, filled = np.empty(0), 0
    for index, one in enumerate(track(embed_patches.each(images), len(images), "Patches of images", report), 1):
        if index == 1:
            held = np.empty((min(len(images), max(1, _TOGETHER // one.nbytes)), *one.shape), np.float32)
        held[filled] = one
        filled += 1
        if filled == len(held) or index == len(images):
            parts.append((density.peak - density.score_samples(held[:filled])).astype(np.float32))
            filled = 0
    scores = np.concatenate(parts)
    side = math.isqrt(scores.shape[1])
    return scores.reshape(-1, side, side)
