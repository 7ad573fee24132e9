"""How many cores must feed a device so that less than 5 % of a step is spent waiting for views.

    python -m benchmarks.waiting [--data=DIR] [--rounds=3]

The pipeline's speed is measured here, on one core. The devices' speeds are not: the A100's are published rates of
other networks, scaled by multiply-adds, and those of other devices are scaled from the A100's by peak 16-bit speed. The
pipeline works ahead, so a step takes as long as the slower of the two. Waiting stays below 5 % if the cores together
make more than 0.95 times the views per second that the device consumes.
"""

from typing import NamedTuple

from absl import app, flags

from benchmarks import pipeline
from benchmarks.multiply_adds import multiply_adds
from cutpaste_tf.images import sources
from cutpaste_tf.networks import build
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config

_ALLOWED = 0.05  # part of a step
_PER_MULTIPLY_ADD = 6  # operations: two, for the output and for both gradients
# Peak 10^12 operations/s in 16 bits, dense, of the makers' data sheets.
PEAKS = {"T4": 65.0, "A100": 312.0, "H100 SXM": 989.0, "TPU v3-8": 420.0}


class Published(NamedTuple):
    """Training on one A100 80 GB in mixed precision, NVIDIA DeepLearningExamples (PyTorch 21.03).

    Attributes:
        images: a second.
        multiply_adds: of an image, 10^9: ResNet-50 at 224 px, EfficientNet-B4 at 380 px, as their papers say.
    """

    images: float
    multiply_adds: float

    @property
    def utilization(self) -> float:
        """The part of A100's peak."""
        return self.images * self.multiply_adds * _PER_MULTIPLY_ADD / 1e3 / PEAKS["A100"]


RESNET50, EFFICIENTNET_B4 = Published(2470, 4.1), Published(331, 4.2)


class Setup(NamedTuple):
    """A network and its views, and whose part of the peak is taken for it."""

    name: str
    config: Config
    like: Published


def main(argv: list[str]) -> None:
    """Prints views/s of a core, then a table of devices."""
    del argv
    shared = {"data": flags.FLAGS.data, "image_size": flags.FLAGS.image_size}
    setups = [
        Setup("ResNet-18, 256 px", Config.of(**shared), RESNET50),
        Setup("ResNet-18, 64 px crops, small stem", Config.of(**shared, patch_size=64), RESNET50),
        Setup("ResNet-18, 64 px crops, 7x7 stem", Config.of(**shared, patch_size=64, stem="imagenet"), RESNET50),
        Setup("EfficientNet-B4, 256 px", Config.of(**shared, backbone="efficientnet_b4"), EFFICIENTNET_B4),
    ]
    rates = views_of_a_core([setup.config for setup in setups])
    print("| network | G multiply-adds | core, views/s: float32, uint8 | device | views/s | steps/s | cores: float32, "
          "uint8 |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for setup in setups:
        config = setup.config.resolved()
        work = multiply_adds(build.build(config.network, len(config.augmentation.views)).feature, config.view_size)
        ours = [rates[key(config, uint8=uint8)] for uint8 in (False, True)]
        for device, peak in PEAKS.items():
            views = setup.like.utilization * peak * 1e3 / (work * _PER_MULTIPLY_ADD)
            cores = ", ".join(f"{(1 - _ALLOWED) * views / rate:.1f}" for rate in ours)
            print(f"| {setup.name} | {work:.2f} | {ours[0]:.0f}, {ours[1]:.0f} | {device} | {views:.0f} | "
                  f"{views / config.schedule.batch_size:.1f} | {cores} |")  # fmt: skip
    for name, network in (("ResNet-50", RESNET50), ("EfficientNet-B4", EFFICIENTNET_B4)):
        print(f"{name}, published on A100: {network.images} images/s, {100 * network.utilization:.1f} % of its peak.")


def key(config: Config, *, uint8: bool) -> str:
    """What decides views/s: the networks share it."""
    return f"{sizes.as_flag(config.view_size)} px{', uint8' if uint8 else ''}"


def views_of_a_core(configs: list[Config]) -> dict[str, float]:
    """Views/s of the pipeline on one core, in float32 and uint8."""
    contestants = {}
    for config in (config.resolved() for config in configs):
        images = sources.read_train(config.data.data, config.data.size).images
        for uint8 in (False, True):
            chosen = config.replaced(uint8_views=uint8, batch_size=96)
            contestants[key(config, uint8=uint8)] = (pipeline.stream(images, chosen), 96)
    return pipeline.time_rounds(contestants)


if __name__ == "__main__":
    app.run(main)
