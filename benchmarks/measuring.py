"""What `benchmarks.gpu` measures in each of its processes: speed of training and of dense scoring, and memory."""

import time
from typing import Any

from cutpaste_tf import devices, environment, parallel, sources
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.detection import dense
from cutpaste_tf.networks import build
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting


def training(config: Config, *, tf32: bool, seconds: float) -> dict[str, Any]:
    """Steps per second with the pipeline, without it, and of the pipeline alone; and peak memory.

    Args:
        config: of the training, whose last phase is measured, with all layers.
        tf32: whether float32 products may be TF32's; JAX' environment says so by itself.
        seconds: that each of the three is measured for.
    """
    _set_tf32(tf32)
    images = sources.read_train(config.data.data, config.data.size).images
    nets, phase = fitting.initial_networks(config), config.schedule.phases[-1]
    freezes = config.network.freeze_batch_norm == "yes"
    build.set_trainable(nets.backbone, head_only=False, freezes_batch_norm=freezes)
    fitting.compile_classifier(nets.classifier, config.schedule, phase)
    stream = pipeline.stream(images, config.augmentation, batch_size=config.schedule.batch_size, seed=config.seed)
    batches = iter(stream)
    repeated = tf.data.Dataset.from_tensors(next(batches)).repeat()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    alone = count / (time.perf_counter() - began)
    del batches
    without = _rate(nets.classifier, repeated, seconds)
    with_pipeline = _rate(nets.classifier, stream, seconds)
    return {
        "steps_per_second_without": round(without, 4),
        "with_pipeline": round(with_pipeline, 4),
        "pipeline_alone": round(alone, 4),
        "waiting": round(max(0.0, 1 - with_pipeline / without), 4),
        **_machine(),
    }


class _Clock(keras.callbacks.Callback):
    """Notes when the first step, which fills the pipeline and may compile, has ended on the device."""

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 1:
            metrics: Any = self.model.get_metrics_result()  # pyright: ignore[reportOptionalMemberAccess]
            float(metrics["loss"])
            self.began = time.perf_counter()


def _rate(classifier: keras.Model, batches: Any, seconds: float) -> float:
    """Steps per second of a fit of about `seconds`, after one that compiles."""
    rate, steps = 0.0, 2
    for _ in range(3):  # to compile, to see how long a step takes, to measure
        clock = _Clock()
        classifier.fit(batches, steps_per_epoch=1 + steps, shuffle=False, verbose=0, callbacks=[clock])  # pyright: ignore[reportArgumentType]
        rate = steps / (time.perf_counter() - clock.began)
        steps = max(3, round(rate * seconds))
    return rate


def dense_scoring(config: Config, *, tf32: bool, seconds: float) -> dict[str, Any]:
    """Best time per image of dense scoring within `seconds`, in seconds; and peak memory."""
    _set_tf32(tf32)
    images = sources.read_train(config.data.data, config.data.size).images
    with devices.used("1"):
        feature = build.feature_model(fitting.initial_networks(config).feature, config.features.feature)
        embed_patches = dense.function(feature, config.data.size, config.features)
        embed_patches(images[0])  # compiles
        times: list[float] = []
        while sum(times) < seconds:
            began = time.perf_counter()
            embed_patches(images[len(times) % len(images)])
            times.append(time.perf_counter() - began)
    return {
        "seconds_per_image": round(min(times), 4),
        "patches": dense.locations(config.data.size, config.features),
        **_machine(),
    }


def _set_tf32(allowed: bool) -> None:
    if environment.backend() == "tensorflow":
        tf.config.experimental.enable_tensor_float_32_execution(allowed)


def _machine() -> dict[str, Any]:
    """Peak memory of the device in MB (10^6 bytes), if known, and the device."""
    peak, device = None, keras.distribution.list_devices()[0]
    if environment.backend() == "jax":
        import jax

        first = jax.local_devices()[0]
        device = first.device_kind
        peak = (first.memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "peak_memory_mb": None if peak is None else round(peak / 1e6),
        "device": f"{environment.backend()}, {device}, {parallel.cores()} cores",
    }
