"""The one-class classifier on the features (Section 2.3)."""

import dataclasses

from cutpaste_tf.settings.base import IMAGE_MODEL, PATCH_MODEL, Settings, setting

# Densities for features of whole images, and the ones among them that work for patches.
DENSITY_NAMES = ["gaussian", "ledoit_wolf", "kde", "mixture", "nearest"]
PATCH_DENSITIES = ("gaussian", "nearest")
# Settings that only some densities use.
_USED_BY = {
    "reg_covar": ("gaussian", "mixture"),
    "kde_bandwidth": ("kde",),
    "mixture_components": ("mixture",),
    "neighbors": ("nearest",),
    "coreset": ("nearest",),
    "density_mode": ("gaussian",),
}


@dataclasses.dataclass(frozen=True)
class DensitySettings(Settings):
    """The density of normal features (Section 2.3).

    The defaults are those of scikit-learn's GaussianMixture, the implementation A.1 names.
    """

    new_at_evaluation = True

    density: str = setting(
        "gaussian",
        "Density fitted to the features of the normal training images; nearest: half the squared distance to the "
        "nearest features, which for patches are those of a coreset.",
        source="Section 2.3, Eq. 2",
        choices=DENSITY_NAMES,
    )
    l2_normalize: bool = setting(True, "Scale features to unit length before fitting the density.", source="DROC")
    reg_covar: float = setting(
        1e-6, "Ridge added to the covariance's diagonal (gaussian, mixture).", source="A.1", at_least=0
    )
    kde_bandwidth: float = setting(
        0.0,
        "Bandwidth of kde; 0: sqrt(dimensions * variance / 20), as in DROC.",
        source="DROC",
        at_least=0,
        only=IMAGE_MODEL,
    )
    mixture_components: int = setting(5, "Number of Gaussians in mixture.", at_least=1, only=IMAGE_MODEL)
    neighbors: int = setting(
        1, "Number of neighbors over which nearest averages the distances.", source="PatchCore", at_least=1
    )
    coreset: int = setting(
        3000, "Number of patches that nearest keeps.", source="PatchCore", at_least=1, only=PATCH_MODEL
    )
    density_mode: str = setting(
        "auto",
        "One density for all locations, or one per location; auto: one per location if the parts are aligned, by "
        "A.5 for MVTec AD's categories, by the training images for others.",
        source="A.5",
        choices=("auto", "shared", "per_location"),
        only=PATCH_MODEL,
    )
    group_by: str = setting(
        "none",
        "For the threshold, count near-duplicate training images, such as frames of a scene, as one: images in the "
        "same folder, or images whose names differ only in their trailing digits (prefix).",
        source="ours",
        choices=("none", "folder", "prefix"),
    )

    @property
    def unused(self) -> list[str]:
        """Names of the settings that the density does not use."""
        return [name for name, densities in _USED_BY.items() if self.density not in densities]
