"""A tiny network and a tiny category, for what depends on neither: commands on them take no time."""

from pathlib import Path

import numpy as np
from PIL import Image

from cutpaste_tf.backend import keras
from cutpaste_tf.networks.backbones import BACKBONES, Backbone
from cutpaste_tf.settings.network import BACKBONE_FACTS, BackboneFacts

_FEATURES = {"layer1": "layer1_1", "layer2": "layer2_0_conv1", "layer3": "layer3_1", "layer4": "layer4_1"}


def register_network() -> None:
    """Makes the network known as `--backbone=toy`, by two entries, as CONTRIBUTING.md says."""
    BACKBONE_FACTS["toy"] = BackboneFacts(dilates=True)
    BACKBONES["toy"] = Backbone(build=_build, features=lambda backbone: _FEATURES)


def _build(stem: str) -> keras.Model:
    layers, image = keras.layers, keras.Input((None, None, 3))
    x = image
    names = [(8, "conv1", "bn1", "layer1_1"), (16, "layer2_0_conv1", "layer3_1", "layer4_1")]  # as a ResNet's
    for index, (width, conv, norm, relu) in enumerate(names, 1):
        x = layers.ZeroPadding2D(1, name=f"conv{index}_pad")(x)
        x = layers.Conv2D(width, 3, strides=2, use_bias=False, name=conv)(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)
        x = layers.ReLU(name=relu)(x)
    return keras.Model(image, x, name="toy")


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """Writes an image file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def draw_category(root: Path) -> Path:
    """Draws a category in MVTec's layout: smooth normal images of 40 px, anomalies with a bright square and a mask."""
    rng = np.random.default_rng(0)

    def picture() -> np.ndarray:
        coarse = rng.integers(60, 160, (4, 4, 3), np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC)).copy()

    for index in range(6):
        write_image(root / f"train/good/{index:03d}.png", picture())
    for index in range(3):
        write_image(root / f"test/good/{index:03d}.png", picture())
        bad, mask = picture(), np.zeros((40, 40), np.uint8)
        bad[10:20, 12:22] = 255
        mask[10:20, 12:22] = 255
        write_image(root / f"test/square/{index:03d}.png", bad)
        write_image(root / f"ground_truth/square/{index:03d}_mask.png", mask)
    return root
