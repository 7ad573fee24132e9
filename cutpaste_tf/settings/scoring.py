"""Which features are scored, and how patch scores become heat maps (Sections 2.4, 4.2 and 4.3, Appendix A.5)."""

import dataclasses

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.base import PATCH_MODEL, Settings, setting


@dataclasses.dataclass(frozen=True)
class FeatureSettings(Settings):
    """The features of images or patches that are scored (Sections 4.2 and 4.3, A.5)."""

    new_at_evaluation = True

    feature: str = setting(
        "pool",
        "Feature: pool, level7 (EfficientNet), layer1..layer4 (ResNet-18), or any layer's name. Several, separated by "
        "commas, are concatenated.",
        source="Section 4.3, Table 3",
    )
    extract_size: int = setting(
        32, "Side of the patches that are scored.", source="A.5; Section 4.2: 64", at_least=16, only=PATCH_MODEL
    )
    stride: int = setting(
        4, "Distance in pixels between scored patches.", source="Section 4.2", at_least=1, only=PATCH_MODEL
    )
    dense: str = setting(
        "exact",
        "How to score patches. exact: one by one; fast: in one pass over the image.",
        choices=("exact", "fast"),
        only=PATCH_MODEL,
    )

    tile_size: int = setting(
        0,
        "Side in pixels of the tiles that dense=fast processes one at a time to limit memory. Images then keep their "
        "own size, unless --image_size is given. 0: whole images.",
        source="ours",
        at_least=0,
        only=PATCH_MODEL,
    )
    # A patch of 32 px and what layer1 and layer2 see beyond it, so that a seam is like any place inside the image.
    tile_overlap: int = setting(
        128,
        "Least overlap of neighboring tiles in pixels. Each patch is taken from the tile that has it in its middle.",
        source="ours",
        at_least=0,
        only=PATCH_MODEL,
    )

    def check(self) -> None:
        """Checks that tiles hold patches, end with a patch, and advance."""
        if not self.tile_size:
            return
        fitting = self.nearest_fitting(self.tile_size)
        if fitting != self.tile_size:
            raise InputError(
                f"--tile_size={self.tile_size}: tile_size - extract_size ({self.extract_size} px) must be a multiple "
                f"of --stride={self.stride}; the nearest is {fitting}."
            )
        if self.tile_overlap > self.tile_size - self.stride:
            raise InputError(f"--tile_overlap={self.tile_overlap} leaves nothing of {self.tile_size} px tiles.")

    def nearest_fitting(self, pixels: int) -> int:
        """The axis length nearest to `pixels` at which patches end at the border; the larger one in a tie."""
        steps = (2 * (pixels - self.extract_size) + self.stride) // (2 * self.stride)
        return self.extract_size + max(0, steps) * self.stride


@dataclasses.dataclass(frozen=True)
class HeatMapSettings(Settings):
    """How patch scores become heat maps and image scores (Section 4.2, A.5)."""

    new_at_evaluation = True

    smoothing_sigma: float = setting(
        10.0,
        "Standard deviation of the upsampling kernel in pixels.",
        source="A.5; size from FCDD",
        above=0,
        only=PATCH_MODEL,
    )
    normalize_coverage: bool = setting(
        False, "Divide a heat map by the sum of the kernels, which falls off at the border.", only=PATCH_MODEL
    )
    # Figure 1 max-pools the patch scores. The map's maximum, which no single odd patch decides, measured better.
    image_score: str = setting(
        "map",
        "An image's score: the maximum of its heat map or of its patch scores.",
        source="Figure 1: patches",
        choices=("map", "patches"),
        only=PATCH_MODEL,
    )


DEFAULT_RATE = 0.05


@dataclasses.dataclass(frozen=True)
class DecisionSettings(Settings):
    """The threshold above which an image is called anomalous, from normal training images."""

    new_at_evaluation = True

    false_alarm_rate: float = setting(
        0.0,
        f"Fraction of normal images that may be called anomalous. 0: {DEFAULT_RATE:g}, or the least that the number of "
        "training images can resolve.",
        source="ours",
        at_least=0,
        at_most=1,
    )
