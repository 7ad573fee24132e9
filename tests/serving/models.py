"""Detectors of every kind, of random weights and tiny, and images for them."""

import numpy as np
from conftest import RESNET, TINY, networks_of
from PIL import Image

from cutpaste_tf.backend import keras
from cutpaste_tf.detection import loading
from cutpaste_tf.runs import TrainingData

RUN = TINY.replaced(epochs=0)
PATCHES = RUN.replaced(image_size=64, patch_size=32, extract_size=32, stride=4)
MODELS = {
    "gaussian": RUN,
    "ledoit_wolf": RUN.replaced(density="ledoit_wolf"),
    "mixture": RUN.replaced(density="mixture", mixture_components=2),
    "kde": RUN.replaced(density="kde"),
    "nearest": RUN.replaced(density="nearest", neighbors=2, feature="layer1,layer3"),
    "features of any length": RUN.replaced(l2_normalize=False),
    "an earlier layer": RUN.replaced(feature="layer2"),
    "a side that is no power of two": RUN.replaced(image_size=(45, 70)),
    "ResNet-18": RESNET.replaced(epochs=0, image_size=48, normalization="imagenet"),
    "bfloat16": RUN.replaced(precision="mixed_bfloat16"),
    "shared, exact": PATCHES.replaced(density_mode="shared"),
    "per location, exact": PATCHES.replaced(density_mode="per_location", image_score="patches", image_size=(64, 96)),
    "shared, fast": PATCHES.replaced(
        dense="fast", density_mode="shared", feature="layer2", normalize_coverage=True, image_size=(96, 64)
    ),
    "combination": PATCHES.replaced(
        density_mode="shared",
        combine="feature=layer2 density=ledoit_wolf; "
        "patch_size=32 feature=layer1 extract_size=16 stride=16 density=nearest l2_normalize=False",
    ),
    "nearest, exact": PATCHES.replaced(density="nearest", coreset=50),
    "nearest, fast": PATCHES.replaced(
        dense="fast", density="nearest", coreset=50, neighbors=3, feature="layer1,layer3", l2_normalize=False
    ),
    "per location, fast": PATCHES.replaced(dense="fast", density_mode="per_location", l2_normalize=False),
}


def pictures(seed=0):
    """Images of several sizes; two of one size follow each other."""
    rng = np.random.default_rng(seed)
    sizes = [(40, 40), (40, 40), (64, 64), (31, 77), (90, 50), (32, 32)]
    coarse = [rng.integers(40, 220, (5, 6, 3), np.uint8) for _ in sizes]
    return [
        np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))
        for picture, size in zip(coarse, sizes, strict=True)
    ]


def fitted_and_pictures(config):
    """A detector of a configuration, of random weights, and images that it has not seen."""
    keras.utils.set_random_seed(0)
    height, width = config.data.size
    images, normal = (
        np.stack([np.asarray(Image.fromarray(picture).resize((width, height))) for picture in pictures(seed)])
        for seed in (0, 1)
    )
    return loading.make(networks_of(config).feature, config, TrainingData({}, 255)).fit(normal), images
