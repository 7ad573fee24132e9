"""Which features are scored, and how scores of patches become heat maps (Sections 2.4, 4.2 and 4.3, Appendix A.5)."""

import dataclasses

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.base import PATCH_MODEL, Settings, setting


@dataclasses.dataclass(frozen=True)
class FeatureSettings(Settings):
    """The features that are scored, of images or of their patches (Sections 4.2 and 4.3, A.5)."""

    new_at_evaluation = True

    feature: str = setting(
        "pool",
        "Feature: pool, level7 (EfficientNet), layer1..layer4 (ResNet-18), any layer's name; several, separated by "
        "commas, are concatenated.",
        source="Section 4.3, Table 3",
    )
    extract_size: int = setting(
        32, "Side of the patches that are scored.", source="A.5; Section 4.2: 64", at_least=16, only=PATCH_MODEL
    )
    stride: int = setting(
        4, "Pixels from one scored patch to the next.", source="Section 4.2", at_least=1, only=PATCH_MODEL
    )
    dense: str = setting(
        "exact",
        "Patches one by one, or in one pass over the image.",
        choices=("exact", "fast"),
        only=PATCH_MODEL,
    )

    tile_size: int = setting(
        0,
        "Side of the tiles in which dense=fast passes over the image, to bound memory; images then keep their own "
        "size, unless --image_size is given. 0: whole.",
        source="ours",
        at_least=0,
        only=PATCH_MODEL,
    )
    # A patch of 32 px and what the places of layer1 and layer2 see beyond it: a seam is then as the image's inside.
    tile_overlap: int = setting(
        128,
        "Pixels that neighboring tiles have in common, at least; a patch is taken from the tile in whose middle it is.",
        source="ours",
        at_least=0,
        only=PATCH_MODEL,
    )

    def check(self) -> None:
        """Checks that tiles hold patches, end with one, and advance."""
        if not self.tile_size:
            return
        fitting = self.nearest_fitting(self.tile_size)
        if fitting != self.tile_size:
            raise InputError(
                f"--tile_size={self.tile_size}: less the extract_size of {self.extract_size} px it must be a multiple "
                f"of --stride={self.stride}; the nearest is {fitting}."
            )
        if self.tile_overlap > self.tile_size - self.stride:
            raise InputError(f"--tile_overlap={self.tile_overlap} leaves nothing of tiles of {self.tile_size} px.")

    def nearest_fitting(self, pixels: int) -> int:
        """The length of an axis nearest to `pixels` on which patches end at the border; of two, the larger."""
        steps = (2 * (pixels - self.extract_size) + self.stride) // (2 * self.stride)
        return self.extract_size + max(0, steps) * self.stride


@dataclasses.dataclass(frozen=True)
class HeatMapSettings(Settings):
    """Heat maps from patch scores, and the image's score (Section 4.2, A.5)."""

    new_at_evaluation = True

    smoothing_sigma: float = setting(
        10.0,
        "Standard deviation of the upsampling kernel in pixels.",
        source="A.5; its size FCDD's",
        above=0,
        only=PATCH_MODEL,
    )
    normalize_coverage: bool = setting(
        False, "Divide a heat map by the kernels' sum, which falls at the border.", only=PATCH_MODEL
    )
    # Figure 1 max-pools the patches' scores; the map's maximum, which no single odd patch decides, was measured better.
    image_score: str = setting(
        "map",
        "An image's score: the maximum of its heat map, or of its patches' scores.",
        source="Figure 1: patches",
        choices=("map", "patches"),
        only=PATCH_MODEL,
    )


DEFAULT_RATE = 0.05


@dataclasses.dataclass(frozen=True)
class DecisionSettings(Settings):
    """When an image is called anomalous: by a threshold from normal training images."""

    new_at_evaluation = True

    false_alarm_rate: float = setting(
        0.0,
        f"Part of the normal images that may be called anomalous. 0: {DEFAULT_RATE:g}, or as little as so few training "
        "images can tell.",
        source="ours",
        at_least=0,
        at_most=1,
    )
