"""Presets for common uses: a preset only sets flags, which can be overridden."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # A.1: ResNet-18 from scratch on whole images.
    "paper": {},
    # Section 2.4, A.5: 64 px crops, from scratch; patches scored one by one.
    "paper_patches": {"patch_size": 64},
    # A.4: EfficientNet-B4 from ImageNet, two phases.
    "transfer": {"backbone": "efficientnet_b4", "weights": "imagenet"},
    # For a CPU: nothing is trained. What it scores by is chosen by the normal images (training/choice.py); where they
    # are too few for that, it is patches of an early stage. The stem is explicit, so that a file of weights can be
    # given instead.
    "quick": {
        "weights": "imagenet",
        "stem": "imagenet",
        "epochs": 0,
        "patch_size": 64,
        "dense": "fast",
        "feature": "layer2",
    },
}


def shown(name: str) -> str:
    """A preset as the flags that it sets."""
    return " ".join(f"--{setting}={value}" for setting, value in PRESETS[name].items()) or "the defaults"
