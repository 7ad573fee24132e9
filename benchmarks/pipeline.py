"""Views per second of the tf.data pipeline on one core, beside a plain Pillow implementation.

    python -m benchmarks.pipeline [--data=DIR] [--image_size=256] [--tasks]

The yardstick is what a straightforward port writes: Pillow on uint8 in one process, the base jitter drawn once per
image and shared by its three views, as ours is by default, in float32. Both run on the same core, in turns, on the same
images; the best round of each counts. `--tasks` compares our proxy tasks with one another instead.
"""

import functools
import os
import time
from collections.abc import Callable

if hasattr(os, "sched_setaffinity"):  # one core for both, before TensorFlow makes its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np
from absl import app, flags
from PIL import Image, ImageEnhance

from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.backend import tf
from cutpaste_tf.images import sources
from cutpaste_tf.settings.augmentation import VIEWS
from cutpaste_tf.settings.config import Config

_DATA = flags.DEFINE_string("data", "demo/gear", "Category folder, or demo/NAME.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 256, "Side of the views in pixels.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; the best one counts.")
_STEPS = flags.DEFINE_integer("steps", 8, "Batches of 96 views in a round, after two that do not count.")
_TASKS = flags.DEFINE_bool("tasks", False, "Time every proxy task beside cutpaste_3way instead.")


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    if _TASKS.value:
        compare_tasks()
    else:
        compare_with_pillow()


def compare_tasks() -> None:
    """Times every proxy task. CutSwap's salient pixels are a quarter of the image, on all levels."""
    config = Config.of(data=_DATA.value, image_size=_IMAGE_SIZE.value, saliency_weights="not read here")
    images = sources.read_train(_DATA.value, _IMAGE_SIZE.value).images
    quarter = slice(_IMAGE_SIZE.value // 4, 3 * _IMAGE_SIZE.value // 4)
    marked = np.concatenate([images, np.zeros_like(images[..., :1])], axis=-1)
    marked[:, quarter, quarter, 3] = 15
    contestants = {}
    for name in VIEWS:
        task = config.replaced(proxy_task=name).resolved()
        contestants[name] = (
            stream(marked if task.augmentation.needs_saliency else images, task),
            task.schedule.batch_size,
        )
    rates = time_rounds(contestants)
    for name, rate in rates.items():
        print(f"{name:<20}{rate:9.0f} views/s {rate / rates['cutpaste_3way']:8.2f} of cutpaste_3way")


def compare_with_pillow() -> None:
    """Times the 3-way task beside the yardstick, and parts of it."""
    config = Config.of(data=_DATA.value, image_size=_IMAGE_SIZE.value).resolved()
    images = sources.read_train(_DATA.value, _IMAGE_SIZE.value).images
    contestants = {
        "ours": stream(images, config),
        "Pillow, shared base jitter": lambda: pillow_batch(images, config),
        "ours, independent views": stream(images, config.replaced(share_base_augmentation=False)),
        "ours, no base jitter": stream(images, config.replaced(base_jitter=0.0)),
        "ours, no patch jitter": stream(images, config.replaced(patch_jitter=0.0)),
        "ours, no jitter": stream(images, config.replaced(base_jitter=0.0, patch_jitter=0.0)),
        "floor: copy float32 batches": lambda: copy_batch(config, np.float32),
        "ours, uint8 views": stream(images, config.replaced(uint8_views=True)),
        "floor: copy uint8 batches": lambda: copy_batch(config, np.uint8),
    }
    rates = time_rounds({name: (start, config.schedule.batch_size) for name, start in contestants.items()})
    for name, rate in rates.items():
        print(f"{name:<30}{rate:9.0f} views/s {1000 / rate:8.3f} ms/view")
    print(f"ratio ours / Pillow: {rates['ours'] / rates['Pillow, shared base jitter']:.2f}")


def time_rounds(contestants: dict[str, tuple[Callable[[], Callable[[], object]], int]]) -> dict[str, float]:
    """Views per second, the best of the rounds, of each contestant: how to start it, and its views in a batch."""
    rates = dict.fromkeys(contestants, 0.0)
    for _ in range(_ROUNDS.value):
        for name, (start, views) in contestants.items():
            # Started anew each round and dropped after it: a pipeline left standing would work ahead
            # during the others' turns, at their cost.
            batch = start()
            batch()
            batch()
            began = time.perf_counter()
            for _ in range(_STEPS.value):
                batch()
            rates[name] = max(rates[name], _STEPS.value * views / (time.perf_counter() - began))
            del batch
    print(f"{_DATA.value}, {_IMAGE_SIZE.value} px, one core, best of {_ROUNDS.value} rounds")
    return rates


def stream(images: np.ndarray, config: Config) -> Callable[[], Callable[[], object]]:
    """Our pipeline on one thread."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    batches = pipeline.stream(images, config.augmentation, batch_size=config.schedule.batch_size, seed=config.seed)
    dataset = batches.with_options(options)
    return lambda: functools.partial(next, iter(dataset))


def pillow_batch(images: np.ndarray, config: Config) -> Callable[[], object]:
    """The yardstick: normal, CutPaste and Scar views of randomly drawn images, as float32 batches."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(image) for image in images]

    def batch() -> np.ndarray:
        views = []
        for _ in range(config.schedule.batch_size // 3):
            normal = translated(pictures[rng.integers(len(pictures))], rng, config)
            normal = jittered(normal, rng, config.augmentation.base_jitter)
            views += [normal, with_patch(normal, rng, config), with_scar(normal, rng, config)]
        return np.stack([np.asarray(view) for view in views]).astype(np.float32) / 255

    return batch


def translated(image: Image.Image, rng: np.random.Generator, config: Config) -> Image.Image:
    """Reflect-pad and crop."""
    margin = round(config.augmentation.translate * config.data.size[0])
    pixels = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    top, left = rng.integers(2 * margin + 1, size=2)
    return Image.fromarray(pixels[top : top + config.data.size[0], left : left + config.data.size[0]])


def jittered(image: Image.Image, rng: np.random.Generator, amount: float) -> Image.Image:
    """Brightness, contrast, saturation and hue in random order."""
    for operation in rng.permutation(4):
        change = rng.uniform(-amount, amount)
        if operation == 3:
            hue, saturation, value = image.convert("HSV").split()
            hue = Image.fromarray((np.asarray(hue).astype(np.int16) + round(change * 255)).astype(np.uint8))
            image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        else:
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[operation]
            image = enhancer(image).enhance(1 + change)
    return image


def with_patch(image: Image.Image, rng: np.random.Generator, config: Config) -> Image.Image:
    """CutPaste."""
    side = config.data.size[0]
    area = rng.uniform(config.augmentation.min_patch_area, config.augmentation.max_patch_area) * side * side
    aspect = (
        rng.uniform(config.augmentation.min_aspect_ratio, 1)
        if rng.integers(2)
        else rng.uniform(1, config.augmentation.max_aspect_ratio)
    )
    height, width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    left, top = rng.integers(side - width + 1), rng.integers(side - height + 1)
    patch = jittered(image.crop((left, top, left + width, top + height)), rng, config.augmentation.patch_jitter)
    result = image.copy()
    result.paste(patch, (int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))))
    return result


def with_scar(image: Image.Image, rng: np.random.Generator, config: Config) -> Image.Image:
    """CutPaste-Scar."""
    side = config.data.size[0]
    width, height = int(rng.integers(2, 17)), int(rng.integers(10, 26))
    left, top = rng.integers(side - width + 1), rng.integers(side - height + 1)
    patch = jittered(image.crop((left, top, left + width, top + height)), rng, config.augmentation.patch_jitter)  # pyright: ignore[reportArgumentType]
    patch = patch.convert("RGBA").rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR, expand=True)
    place = int(rng.integers(side - patch.width + 1)), int(rng.integers(side - patch.height + 1))
    result = image.copy()
    result.paste(patch, place, patch)
    return result


def copy_batch(config: Config, kind: type[np.float32 | np.uint8]) -> Callable[[], object]:
    """What any pipeline must do at the least: write each view once and copy it into its batch."""
    views = np.zeros((config.schedule.batch_size, *config.data.size, 3), kind)
    source = np.zeros(views.shape[1:], np.uint8)
    factor = kind(1 / 255) if kind is np.float32 else kind(1)
    batch = np.empty_like(views)

    def copy() -> None:
        for index in range(len(views)):
            np.multiply(source, factor, out=views[index])
            batch[index] = views[index]

    return copy


if __name__ == "__main__":
    app.run(main)
