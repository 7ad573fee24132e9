"""Dense scoring: seconds per image exact, fast, and by the obvious loop, in one run on the same image.

  python -m benchmarks.dense [--extract_size=32] [--stride=4] [--stem=imagenet] [--rounds=3]

The obvious loop cuts out all patches of the image and passes them to `predict`. The time for cutting alone is also
printed: exact scoring does this on the host while the device works on the previous patches. Multiply-adds are counted
from the output shapes of the convolutions, padding zeros included.
"""

import math
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks.multiply_adds import multiply_adds
from cutpaste_tf.backend import keras
from cutpaste_tf.detection import dense
from cutpaste_tf.networks import build
from cutpaste_tf.settings.config import Config

_SIZE = flags.DEFINE_integer("extract_size", 32, "Side of the patches.")
_STRIDE = flags.DEFINE_integer("stride", 4, "Pixels from one patch to the next.")
_STEM = flags.DEFINE_enum("stem", "imagenet", ("imagenet", "small"), "Stem of the ResNet-18.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds; the best of each contestant counts.")


def main(_: list[str]) -> None:
    """Times the contestants in turn and prints a table."""
    config = Config.of(patch_size=64, extract_size=_SIZE.value, stride=_STRIDE.value, stem=_STEM.value).resolved()
    settings = config.features
    network = build.build(config.network, 3).feature
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    count = dense.locations(256, settings)

    def loop(image: np.ndarray) -> np.ndarray:
        size, stride = settings.extract_size, settings.stride
        places = range(0, 257 - size, stride)
        patches = [image[top : top + size, left : left + size] for top in places for left in places]
        return network.predict(np.stack(patches).astype(np.float32) / 255, batch_size=32, verbose=0)

    contestants: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
        "obvious loop": (loop, count * multiply_adds(network, settings.extract_size)),
        "cutting alone": (lambda image: list(dense.cut(image[None], settings, dense.batch_size(256, settings)))[-1], 0),
    }
    for name in ("pool", "layer3", "layer2", "layer1"):
        feature = build.feature_model(network, name)
        exact = count * multiply_adds(feature, settings.extract_size)
        contestants[f"exact, {name}"] = (dense.exact(feature, (256, 256), settings), exact)
        inner = next(layer for layer in feature.layers if isinstance(layer, keras.Model))
        fast = multiply_adds(dense.dilate(inner, dense.fast_step(inner, settings)), 256)
        contestants[f"fast, {name}"] = (dense.fast(feature, (256, 256), settings), fast)
    best: dict[str, float] = dict.fromkeys(contestants, math.inf)
    for turn in range(_ROUNDS.value + 1):
        for name, (function, _cost) in contestants.items():
            start = time.perf_counter()
            function(image)
            if turn:  # the first is for compilation
                best[name] = min(best[name], time.perf_counter() - start)
    size = settings.extract_size
    print(f"ResNet-18, {_STEM.value} stem, 256 px, {count} patches of {size} px, one image at a time")
    for name, (_function, cost) in contestants.items():
        ratio = best["exact, pool"] / best[name]
        print(f"{name:<14}{best[name]:8.3f} s/image   {ratio:6.2f} x exact pool's speed   {cost:7.1f} G multiply-adds")


if __name__ == "__main__":
    app.run(main)
