"""Training steps per second with the pipeline, beside plain `model.fit` on one batch of random numbers.

    python -m benchmarks.training [--data=DIR] [--backbone=efficientnet_b0] [--image_size=128] [--batch_size=0]

The ratio is the share of the device's speed that remains with the pipeline. Both use the same compiled step of the same
network, in turns, once for each phase of training; the best round counts. How long a step waits for the pipeline is
timed separately, in a loop that takes a batch and then trains on it while the pipeline works ahead.
`benchmarks.waiting` says how many cores a faster device needs.
"""

import time

from absl import app, flags

from cutpaste_tf.augmentation import color, pipeline
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.images import sources
from cutpaste_tf.networks import build
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting

_DATA = flags.DEFINE_string("data", "demo/gear", "Category folder, or demo/NAME.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 128, "Side of the views in pixels.")
_BACKBONE = flags.DEFINE_string("backbone", "resnet18", "Backbone network.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "Views in a step; 0: the paper's, 96 or for EfficientNet 24.")
_PATCH_SIZE = flags.DEFINE_integer("patch_size", 0, "Side of random crops; 0: whole images.")
_UINT8 = flags.DEFINE_bool("uint8_views", False, "Round views to 8 bits.")
_PRECISION = flags.DEFINE_string("precision", "float32", "Arithmetic of the networks.")
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
    config = Config.of(
        data=_DATA.value,
        backbone=_BACKBONE.value,
        image_size=_IMAGE_SIZE.value,
        batch_size=_BATCH_SIZE.value,
        patch_size=_PATCH_SIZE.value,
        uint8_views=_UINT8.value,
        precision=_PRECISION.value,
        stem="imagenet",
    ).resolved()
    size, batch_size, classes = config.view_size, config.schedule.batch_size, len(config.augmentation.views)
    images = sources.read_train(_DATA.value, config.data.size).images
    nets = fitting.initial_networks(config)
    stream = pipeline.stream(images, config.augmentation, batch_size=batch_size, seed=config.seed)
    shape = (batch_size, *size, 3)
    labels = tf.range(batch_size) % classes
    views = tf.random.stateless_uniform(shape, [0, 0])  # pyright: ignore[reportArgumentType]
    views = color.to_uint8(tf.unstack(views)) if config.augmentation.uint8_views else views
    random = tf.data.Dataset.from_tensors((views, labels)).repeat()
    print(f"{_DATA.value}, {_BACKBONE.value}, {sizes.as_flag(size)} px, batch {batch_size}, "
          f"best of {_ROUNDS.value} rounds")  # fmt: skip
    for phase in config.schedule.phases:
        freezes = config.network.freeze_batch_norm == "yes"
        build.set_trainable(nets.backbone, head_only=phase.head_only, freezes_batch_norm=freezes)
        fitting.compile_classifier(nets.classifier, config.schedule, phase)
        rates = time_rounds(nets.classifier, {"pipeline": stream, "random numbers": random})
        print("head alone" if phase.head_only else "all layers")
        for name, rate in rates.items():
            print(f"  {name:<16}{rate:8.3f} steps/s {rate * batch_size:8.1f} images/s")
        print(f"  ratio: {rates['pipeline'] / rates['random numbers']:.3f}")
        waits = [time_waiting(nets.classifier, stream) for _ in range(_ROUNDS.value)]
        shares = ", ".join(f"{100 * waited / (waited + trained):.1f}" for waited, trained in waits)
        waited, trained = min(waits, key=sum)
        print(f"  waits for the pipeline: {shares} % of a step")
        print(f"  fastest round: waits for {1000 * waited:.1f} ms, then trains for {1000 * trained:.1f} ms")


def time_rounds(classifier: keras.Model, contestants: dict[str, tf.data.Dataset]) -> dict[str, float]:
    """Steps per second, the best of the rounds."""
    rates = dict.fromkeys(contestants, 0.0)
    for dataset in contestants.values():
        classifier.fit(dataset, steps_per_epoch=2, shuffle=False, verbose=0)  # traces and compiles  # pyright: ignore[reportArgumentType]
    for _ in range(_ROUNDS.value):
        for name, dataset in contestants.items():
            clock = _Clock()
            steps = _WARM_UP + _STEPS.value
            classifier.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[clock])  # pyright: ignore[reportArgumentType]
            rates[name] = max(rates[name], _STEPS.value / (time.perf_counter() - clock.began))
    return rates


def time_waiting(classifier: keras.Model, dataset: tf.data.Dataset) -> tuple[float, float]:
    """Seconds of a step, the mean of a round's, blocked in `next` and then spent on training."""
    batches = iter(dataset)
    waited = trained = 0.0
    for step in range(_WARM_UP + _STEPS.value):
        began = time.perf_counter()
        views, labels = next(batches)
        taken = time.perf_counter()
        classifier.train_on_batch(views, labels)  # asks for the loss, and so waits for the device
        if step >= _WARM_UP:
            waited += taken - began
            trained += time.perf_counter() - taken
    return waited / _STEPS.value, trained / _STEPS.value


if __name__ == "__main__":
    app.run(main)
