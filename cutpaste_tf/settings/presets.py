"""Presets for common uses. A preset only sets flags, which the user can override."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # A.1: ResNet-18 from scratch on whole images.
    "paper": {},
    # Section 2.4, A.5: 64 px crops, from scratch; patches are scored one by one.
    "paper_patches": {"patch_size": 64},
    # A.4: EfficientNet-B4 from ImageNet, two phases.
    "transfer": {"backbone": "efficientnet_b4", "weights": "imagenet"},
    # For a CPU: nothing is trained. The normal images decide how it scores (training/choice.py); if there are too few
    # of them, it scores patches of an early stage. The stem is explicit so that a weights file can be given instead.
    "quick": {
        "weights": "imagenet",
        "stem": "imagenet",
        "epochs": 0,
        "patch_size": 64,
        "dense": "fast",
        "feature": "layer2",
    },
    # On a CPU: A.4 scaled down to a ResNet-18. The made-up anomalies decide whether the trained network is used.
    "quarter_hour": {
        "weights": "imagenet",
        "stem": "imagenet",
        "head_epochs": 1,
        "epochs": 4,
        "steps_per_epoch": 64,
        "batch_size": 24,
        "learning_rate": 0.0001,
    },
}

# Presets that choose features, density and image score by the normal images, see training/choice.py.
CHOOSING = ("quick", "quarter_hour")


def shown(name: str) -> str:
    """A preset as the flags it sets."""
    return " ".join(f"--{setting}={value}" for setting, value in PRESETS[name].items()) or "the defaults"
