"""The densities of image features, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cutpaste_tf.density.density import Density
from cutpaste_tf.density.gaussian import GaussianDensity, LedoitWolfDensity, MixtureDensity
from cutpaste_tf.density.kernel import KernelEstimate
from cutpaste_tf.density.nearest import NearestDensity
from cutpaste_tf.files import COPY_AGAIN, reading
from cutpaste_tf.settings.density import DensitySettings

# Each creates an unfitted density from settings.
DENSITIES: dict[str, Callable[[DensitySettings], Density]] = {
    "gaussian": lambda s: GaussianDensity(l2_normalize=s.l2_normalize, reg_covar=s.reg_covar),
    "ledoit_wolf": lambda s: LedoitWolfDensity(l2_normalize=s.l2_normalize),
    "kde": lambda s: KernelEstimate(bandwidth=s.kde_bandwidth, l2_normalize=s.l2_normalize),
    "nearest": lambda s: NearestDensity(neighbors=s.neighbors, l2_normalize=s.l2_normalize),
    "mixture": lambda s: MixtureDensity(
        components=s.mixture_components, l2_normalize=s.l2_normalize, reg_covar=s.reg_covar
    ),
}


def build(settings: DensitySettings) -> Density:
    """Creates the unfitted density that the settings select."""
    return DENSITIES[settings.density](settings)


def load(path: Path, settings: DensitySettings) -> Density:
    """Reads the density of a detector.

    Raises:
        InputError: the file is missing, damaged, or from another version.
    """
    with reading(path, f": {COPY_AGAIN}.", or_else=" or from another version"):
        return build(settings).load(path)
