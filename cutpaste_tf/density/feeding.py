"""Fits several densities to one stream of features, which is computed once and need not be stored."""

import contextlib
from collections.abc import Generator, Iterable, Sequence
from typing import TypeAlias

import numpy as np

# Takes the features of one image after another; fits once it has all of them.
Fitting: TypeAlias = Generator[None, np.ndarray, None]


def feed(fittings: Sequence[Fitting], features: Iterable[np.ndarray]) -> None:
    """Passes the features of each image to each density.

    Args:
        fittings: one for each density, from its `fitting`.
        features: float32 [locations, dimensions] for each image.
    """
    for fitting in fittings:
        next(fitting, None)  # to where it waits for features
    for image_features in features:
        for fitting in fittings:
            with contextlib.suppress(StopIteration):  # raised once it has all images, and has fitted
                fitting.send(image_features)
