"""Training steps per second with the pipeline, beside the same network on one batch kept in memory.

    python -m benchmarks.training [--data=DIR] [--image_size=128] [--batch_size=96]

The ratio is what the pipeline leaves of the device's speed. Both use the same compiled step of the
same network, in turns; the best round of each counts.
"""

import time

import keras
import tensorflow as tf
from absl import app, flags

from cutpaste_tf import datasets, networks, pipeline, training
from cutpaste_tf.config import Config
from data import demo

_DATA = flags.DEFINE_string("data", "demo/gear", "Category folder, or demo/NAME.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 128, "Side of the views in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 96, "Views in a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 4, "Rounds; the best one counts.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps in a round.")
_WARM_UP = 2  # steps of a round that do not count: they fill the pipeline


class _Clock(keras.callbacks.Callback):
    """Notes when the warm-up has ended."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == _WARM_UP - 1:
            self.began = time.perf_counter()


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    config = Config(data=_DATA.value, image_size=_IMAGE_SIZE.value, batch_size=_BATCH_SIZE.value, stem="imagenet")
    images = datasets.read_train(demo.locate(config.data), config.image_size).images
    classifier = networks.build(config).classifier
    training.compile_classifier(classifier, config, config.phases[0])
    stream = pipeline.stream(images, config)
    cached = stream.take(1).cache().repeat().prefetch(tf.data.AUTOTUNE)
    rates = {"pipeline": 0.0, "cached batch": 0.0}
    for dataset in (stream, cached):
        classifier.fit(dataset, steps_per_epoch=2, shuffle=False, verbose=0)  # traces and compiles
    for _ in range(_ROUNDS.value):
        for name, dataset in (("pipeline", stream), ("cached batch", cached)):
            clock = _Clock()
            steps = _WARM_UP + _STEPS.value
            classifier.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[clock])
            rates[name] = max(rates[name], _STEPS.value / (time.perf_counter() - clock.began))
    print(f"{_DATA.value}, {config.image_size} px, batch {config.batch_size}, best of {_ROUNDS.value} rounds")
    for name, rate in rates.items():
        print(f"{name:<14}{rate:8.3f} steps/s {rate * config.batch_size:8.1f} images/s")
    print(f"ratio: {rates['pipeline'] / rates['cached batch']:.3f}")


if __name__ == "__main__":
    app.run(main)
