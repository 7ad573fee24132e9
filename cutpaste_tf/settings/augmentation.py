"""The proxy task and its augmentations (Sections 2.1, 2.2 and 2.4, Appendix A.2)."""

import dataclasses

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.base import Settings, setting
from cutpaste_tf.settings.sizes import Size

# Proxy task -> names of the views it makes of an image, in the order of their labels.
VIEWS: dict[str, tuple[str, ...]] = {
    "cutpaste_3way": ("normal", "cutpaste", "scar"),
    "cutpaste": ("normal", "cutpaste"),
    "cutpaste_scar": ("normal", "scar"),
    "cutpaste_union": ("normal", "cutpaste or scar"),
    "rotation": ("0 degrees", "90 degrees", "180 degrees", "270 degrees"),
    "cutout": ("normal", "grey patch"),
    "cutout_mean": ("normal", "mean color patch"),
    "cutout_color": ("normal", "random color patch"),
    "scar": ("normal", "random color scar"),
    "confetti": ("normal", "shifted color patch"),
    "cutswap": ("normal", "swapped salient patches"),
}
NEED_SALIENCY = ("cutswap",)  # tasks whose images have a fourth channel, see `saliency.mark`


@dataclasses.dataclass(frozen=True)
class AugmentationSettings(Settings):
    """The proxy task and its views (Sections 2.1, 2.2 and 2.4, A.2)."""

    proxy_task: str = setting(
        "cutpaste_3way",
        "Classification task that trains the representation.",
        source="Sections 2.1, 2.2, Tables 1, 4, 5",
        choices=VIEWS,
    )
    patch_size: int = setting(
        0,
        "Side of the random crops to train a patch model on, 64 in the paper; 0: whole images.",
        source="Section 2.4",
        at_least=0,
    )

    # Before any task's own augmentation: "random translation and color jitters" (A.1).
    translate: float = setting(
        0.125,
        "Largest translation, as a fraction of the side (reflected border).",
        source="A.1; size from DROC",
    )
    base_jitter: float = setting(
        0.1,
        "Color jitter of whole images: brightness, contrast, saturation, hue.",
        source="A.1; same size as the patch's",
        at_least=0,
    )
    # Eq. 1 and 3 put the same augmented x, or crop c(x), into g(x) and g(CP(x)); DROC draws one for each view.
    share_base_augmentation: bool = setting(
        True, "Use the same base augmentation and crop for all views of an image.", source="Eq. 1, 3"
    )

    uint8_views: bool = setting(
        False, "Round views to 8 bits: a quarter of the bytes to transfer to the device, which rescales them."
    )

    min_patch_area: float = setting(0.02, "Smallest CutPaste patch, as a fraction of the image's area.", source="A.2")
    max_patch_area: float = setting(
        0.15, "Largest CutPaste patch, as a fraction of the image's area.", source="A.2; Table 8"
    )
    min_aspect_ratio: float = setting(0.3, "Smallest height / width of a CutPaste patch.", source="A.2")
    max_aspect_ratio: float = setting(3.3, "Largest height / width of a CutPaste patch.", source="A.2")
    # Our reading of A.2's "(0.3, 1) U (1, 3.3)": wide and tall patches are equally likely. torchvision's RandomErasing
    # first sampled uniformly, which makes 77 % of them tall, and later log-uniformly.
    aspect_sampling: str = setting(
        "union",
        "Distribution of height / width. union (our reading): a fair coin picks below 1 or above 1, uniform within "
        "each; uniform: from smallest to largest, 77 % above 1; log_uniform.",
        source="A.2",
        choices=("union", "uniform", "log_uniform"),
    )
    patch_jitter: float = setting(
        0.1, "Color jitter of the pasted patch; 0 turns it off.", source="A.2; Table 8", at_least=0
    )
    scar_min_width: int = setting(2, "Smallest width of a scar in pixels.", source="A.2", at_least=1)
    scar_max_width: int = setting(16, "Largest width of a scar in pixels.", source="A.2")
    scar_min_length: int = setting(10, "Smallest length of a scar in pixels.", source="A.2", at_least=1)
    scar_max_length: int = setting(25, "Largest length of a scar in pixels.", source="A.2")
    scar_rotation: float = setting(
        45.0, "Largest rotation of a scar in degrees, in either direction.", source="A.2", at_least=0, at_most=90
    )
    saliency_weights: str = setting(
        "",
        "ImageNet ResNet-18 with its classifier, for cutswap's saliency, given as in --weights; empty: --weights, or "
        "else imagenet.",
    )

    def check(self) -> None:
        """Checks ranges that depend on each other."""
        if 0 < self.patch_size < 16:
            raise InputError(f"--patch_size={self.patch_size} must be at least 16.")
        if not 0 <= self.translate < 1:
            raise InputError(f"--translate={self.translate} must be in [0, 1): it is a fraction of the image's side.")
        if max(self.base_jitter, self.patch_jitter) > 0.5:
            raise InputError("--base_jitter and --patch_jitter must be at most 0.5: half a turn of hue is every hue.")
        if not 0 < self.min_patch_area <= self.max_patch_area < 1:
            raise InputError("0 < --min_patch_area <= --max_patch_area < 1 must hold.")
        if not 0 < self.min_aspect_ratio <= 1 <= self.max_aspect_ratio:
            raise InputError("0 < --min_aspect_ratio <= 1 <= --max_aspect_ratio must hold.")
        if self.scar_min_width > self.scar_max_width or self.scar_min_length > self.scar_max_length:
            raise InputError("A scar's smallest width or length is greater than its largest.")

    def check_scar(self, size: Size) -> None:
        """Checks that a scar fits into a view of this size (height, width), however it is rotated.

        Raises:
            InputError: it does not.
        """
        if self.scar_max_width**2 + self.scar_max_length**2 > min(size) ** 2:
            raise InputError(f"A rotated scar does not fit into {sizes.as_flag(size)} px; make it smaller.")

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views of one image, in the order of their labels."""
        return VIEWS[self.proxy_task]

    @property
    def needs_saliency(self) -> bool:
        """Whether the task's images have a fourth channel that marks salient pixels."""
        return self.proxy_task in NEED_SALIENCY
