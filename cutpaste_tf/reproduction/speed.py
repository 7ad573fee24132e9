"""Measures training speed on this machine: a few steps of each network, in a process with a time limit."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf.reproduction.carrying_out import PACKAGES
from cutpaste_tf.settings.config import Config

SECONDS = 60.0  # in total
_STEPS, _SECONDS = 3, 3.0  # a measurement takes at least this many of each
_IMAGES = 2  # images whose views form a step on a CPU, where views/s hardly depend on the batch


class Speed(NamedTuple):
    """A measured speed.

    Attributes:
        views: views per second.
        batch: views in a step.
    """

    views: float
    batch: int


def measure(runs: Sequence[Mapping[str, Any]], seconds: float = SECONDS) -> dict[int, Speed]:
    """Measures runs by their settings, one after another.

    Args:
        runs: settings by name, without defaults.
        seconds: total time limit.

    Returns:
        Index of a run -> its speed, except for runs that had no time left or that cannot be trained here.
    """
    code = f"import sys; sys.path.insert(0, {PACKAGES!r}); from cutpaste_tf.reproduction import speed; speed.main()"
    payload = json.dumps([dict(settings) for settings in runs]).encode()
    try:
        process = subprocess.run(
            [sys.executable, "-c", code], input=payload, capture_output=True, timeout=seconds, check=False
        )
        output = process.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    words = [line.split() for line in output.decode(errors="replace").splitlines() if line.startswith("speed ")]
    return {int(index): Speed(float(views), int(batch)) for _, index, views, batch in words}


def main() -> None:
    """Runs in the other process: reads settings from stdin and prints a line for each."""
    for index, settings in enumerate(json.load(sys.stdin)):
        config = Config.of(**{name: value for name, value in settings.items() if name != "weights"})
        speed = _speed(config.resolved())
        print(f"speed {index} {speed.views:.4f} {speed.batch}", flush=True)


def _speed(config: Config) -> Speed:
    """The speed of the phase that trains all layers, or of the only phase."""
    from cutpaste_tf.augmentation import pipeline
    from cutpaste_tf.backend import keras
    from cutpaste_tf.training import fitting

    has_gpu = bool(keras.distribution.list_devices("gpu"))
    batch = config.schedule.batch_size if has_gpu else _IMAGES * len(config.augmentation.views)
    images = np.random.default_rng(0).integers(0, 256, (8, *config.data.size, 3), np.uint8)
    classifier = fitting.initial_networks(config).classifier
    fitting.compile_classifier(classifier, config.schedule, config.schedule.phases[-1])
    steps, began = 0, 0.0
    for views, labels in pipeline.stream(images, config.augmentation, batch_size=batch, seed=0):
        classifier.train_on_batch(views, labels)
        if not began:
            began = time.monotonic()  # the first step compiles
            continue
        steps += 1
        if steps >= _STEPS and time.monotonic() - began > _SECONDS:
            break
    return Speed(steps * batch / (time.monotonic() - began), batch)
