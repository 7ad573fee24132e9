"""From images to batches of views: shuffled, augmented and prefetched by tf.data.

Randomness is an argument throughout: image i of the endless stream is augmented with fold_in(seed, i), and pass p over
the images is shuffled with fold_in(seed, p). So the same seed gives the same bits at any degree of parallelism, and the
stream can start at any step.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from cutpaste_tf import arrays
from cutpaste_tf.augmentation.proxy_tasks import TASKS
from cutpaste_tf.backend import tf
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.augmentation import VIEWS, AugmentationSettings
from cutpaste_tf.settings.sizes import Size

_FOREVER = 2**62
_AHEAD = 4  # prefetched batches, 75 MB each at 256 px in float32; tf.data's autotuning reached 67


def stream(
    images: np.ndarray,
    settings: AugmentationSettings,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> tf.data.Dataset:
    """The endless stream of training batches.

    Args:
        images: uint8 [count, height, width, 3], the normal training images (4 channels for cutswap, see
            `saliency.mark`); they are copied once, with their border. A `numpy.memmap` is instead read and padded view
            by view, without holding it in memory.
        settings: the proxy task and its augmentations.
        batch_size: views per step, a multiple of the number of classes.
        seed: seed of the run.
        start_step: the first batch; a resumed run continues where it stopped.

    Returns:
        Batches of views float32 [batch_size, *view_size, 3] in [0, 1], or uint8 with `uint8_views`, and labels int32
        [batch_size]. The views of an image are adjacent, in the order of their labels.
    """
    per_step = batch_size // len(settings.views)
    size = images.shape[1:3]
    order_seed, views_seed = _seeds(seed)
    padded = _padded(images, settings.translate)

    def augment(position: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.random.fold_in(views_seed, position)  # pyright: ignore[reportArgumentType]
        return TASKS[settings.proxy_task](padded(index), seed, settings, size)  # pyright: ignore[reportArgumentType]

    def flatten(views: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        view_size = sizes.of(settings.patch_size) if settings.patch_size else size
        return tf.reshape(views, [batch_size, *view_size, 3]), tf.reshape(labels, [batch_size])

    dataset = _positions(len(images), order_seed, start_step * per_step)
    dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(per_step, drop_remainder=True).map(flatten)
    options = tf.data.Options()
    # One thread per image: faster than many threads for each small operation, and the order of summation, hence a
    # sum's last bit, does not depend on the number of cores.
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(_AHEAD).with_options(options)


def _seeds(seed: int) -> list[tf.Tensor]:
    """The seeds, int32 [2], of the order and of the views. Stateless ops want two integers."""
    return tf.unstack(tf.random.split([seed, 0], 2))


def view_seed(seed: int) -> tf.Tensor:
    """The seed that the views of image i of the stream have folded with i."""
    return _seeds(seed)[1]


def augmentations(images: np.ndarray, settings: AugmentationSettings, *, seed: int) -> dict[str, np.ndarray]:
    """One draw of every augmented view of a task, for each image.

    Args:
        images: as in `stream`.
        settings: the task and its augmentations.
        seed: seed of the draw.

    Returns:
        Name of the view -> float32 [count, *view_size, 3] in [0, 1]; the first view, which has only the base
        augmentation, is left out.
    """
    padded, size = _padded(images, settings.translate), images.shape[1:3]
    settings = dataclasses.replace(settings, uint8_views=False)

    def augment(index: tf.Tensor) -> tf.Tensor:
        views, _ = TASKS[settings.proxy_task](padded(index), tf.random.fold_in([seed, 0], index), settings, size)  # pyright: ignore[reportArgumentType]
        return views

    views = np.stack(list(tf.data.Dataset.range(len(images)).map(augment).as_numpy_iterator()))
    return {name: views[:, label] for label, name in enumerate(settings.views) if label}


def every_task(
    images: np.ndarray,
    settings: AugmentationSettings,
    *,
    seed: int,
    mark: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The images and one draw of their augmented views for every task: the columns of Figures 2 and 5.

    Args:
        images: uint8 [count, height, width, 3].
        settings: settings of the augmentations.
        seed: seed of the draws.
        mark: adds the channel of salient pixels; without it, tasks that need this channel are omitted.

    Returns:
        Title of the column -> float32 [count, height, width, 3] in [0, 1].
    """
    columns = {"source": images.astype(np.float32) / 255}
    for name in VIEWS:
        task = dataclasses.replace(settings, proxy_task=name)
        if task.needs_saliency and mark is None:
            continue
        marked = mark(images) if task.needs_saliency and mark else images
        views = augmentations(marked, task, seed=seed)
        columns |= {f"{name}\n{view}": pictures for view, pictures in views.items()}
    return columns


def pad(images: np.ndarray, translate: float) -> np.ndarray:
    """Adds a reflected border for random translation by up to the fraction `translate` of height and width."""
    below, beside = _margins(images, translate)
    return np.pad(images, ((0, 0), (below, below), (beside, beside), (0, 0)), mode="reflect")


def _padded(images: np.ndarray, translate: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph-mode function from an index to the padded image."""
    if not isinstance(images, np.memmap):
        # Padded once, not per view, since reflecting costs ten times as much as cropping. A variable, since tf.data
        # keeps its own copy of every constant that a function captures.
        with tf.device("CPU:0"):  # where tf.data runs; GPU memory is for the network
            padded = tf.Variable(pad(images, translate), trainable=False)  # pyright: ignore[reportArgumentType]
        return lambda index: tf.gather(padded, index)
    margins, fetched, held = _margins(images, translate), itertools.count(1), arrays.in_memory(images, 128)
    (height, width), (below, beside) = images.shape[1:3], margins

    def read(index: int) -> np.ndarray:
        image = _reflected(images[index], margins)
        if next(fetched) % held == 0:
            arrays.release(images)
        return image

    def fetch(index: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(read, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(image, (height + 2 * below, width + 2 * beside, images.shape[3]))

    return fetch


def _reflected(image: np.ndarray, margins: Size) -> np.ndarray:
    """A copy of one image with `pad`'s border; with TensorFlow's padding, the pipeline would have 2/3 of its speed."""
    shape = tuple(length + 2 * margin for length, margin in zip(image.shape, (*margins, 0), strict=True))
    result = np.empty(shape, image.dtype)
    interior = [slice(margin, margin + length) for length, margin in zip(image.shape, margins, strict=False)]
    result[*interior] = image
    for rows, inside, margin in zip((result, result.swapaxes(0, 1)), interior, margins, strict=True):
        inner = rows[inside]
        rows[:margin], rows[inside.stop :] = inner[margin:0:-1], inner[-2 : -2 - margin : -1]
    return result


def _margins(images: np.ndarray, translate: float) -> Size:
    """Border pixels above and below, and on the left and right."""
    height, width = images.shape[1:3]
    return min(round(translate * height), height - 1), min(round(translate * width), width - 1)


def _positions(count: int, seed: tf.Tensor, start: int) -> tf.data.Dataset:
    """(position in the stream, index of its image) from position `start` on; each pass is shuffled anew."""
    first_pass = start // count

    def shuffled(number: tf.Tensor) -> tf.data.Dataset:
        indices = tf.random.experimental.stateless_shuffle(tf.range(count), tf.random.fold_in(seed, number))  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        return tf.data.Dataset.from_tensor_slices(indices)

    indices = tf.data.Dataset.range(first_pass, _FOREVER).flat_map(shuffled).skip(start - first_pass * count)
    return indices.enumerate(start)
