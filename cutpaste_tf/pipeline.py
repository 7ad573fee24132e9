"""From images to batches of views: shuffled, augmented and prefetched by tf.data.

Randomness is an argument throughout: image i of the endless stream is augmented with
fold_in(seed, i), and pass p over the images is shuffled with fold_in(seed, p). So the same seed
gives the same bits whatever the parallelism, and the stream can start at any step.
"""

from collections.abc import Callable

import numpy as np

from cutpaste_tf import proxy_tasks
from cutpaste_tf.backend import tf
from cutpaste_tf.config import Config

_FOREVER = 2**62
_AHEAD = 4  # batches made ahead, 75 MB each at 256 px; left to tf.data, they grew to 67


def stream(images: np.ndarray, config: Config, *, start_step: int = 0) -> tf.data.Dataset:
    """The endless stream of training batches.

    Args:
        images: uint8 [count, side, side, 3], the normal training images (4 channels for cutswap, see
            `saliency.mark`); they are copied once, with their border. A `numpy.memmap` is read and padded view
            by view instead, and not held in memory.
        config: the run's configuration.
        start_step: the first batch to give; a resumed run goes on where it stopped.

    Returns:
        Batches of views float32 [batch_size, view_size, view_size, 3] in [0, 1] and labels int32 [batch_size].
        The views of one image stand together, in the order of their labels.
    """
    views = len(config.views)
    per_step = config.batch_size // views
    # Stateless ops want a seed of two integers; folding keeps order and augmentation apart.
    order_seed, view_seed = tf.unstack(tf.random.split([config.seed, 0], 2))
    padded = _padded(images, config)
    task = proxy_tasks.TASKS[config.proxy_task]

    def augment(position: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return task(padded(index), tf.random.fold_in(view_seed, position), config)

    def flatten(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        side = config.view_size
        return tf.reshape(images, [config.batch_size, side, side, 3]), tf.reshape(labels, [config.batch_size])

    dataset = _positions(len(images), order_seed, start_step * per_step)
    dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(per_step, drop_remainder=True).map(flatten)
    options = tf.data.Options()
    # One thread per image: faster than many threads for each small operation, and the order in
    # which a sum is taken, hence its last bit, does not depend on the number of cores.
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(_AHEAD).with_options(options)


def augmentations(images: np.ndarray, config: Config) -> dict[str, np.ndarray]:
    """One draw of every augmented view of a task, for each image.

    Args:
        images: as in `stream`.
        config: the task and its settings.

    Returns:
        Name of the view -> float32 [count, view_size, view_size, 3] in [0, 1]; the view `normal` is left out.
    """
    padded, task = _padded(images, config), proxy_tasks.TASKS[config.proxy_task]
    dataset = tf.data.Dataset.range(len(images))
    dataset = dataset.map(lambda index: task(padded(index), tf.random.fold_in([config.seed, 0], index), config)[0])
    views = np.stack(list(dataset.as_numpy_iterator()))
    return {name: views[:, label] for label, name in enumerate(config.views) if name not in ("normal", "0 degrees")}


def pad(images: np.ndarray, config: Config) -> np.ndarray:
    """Adds the reflected border that random translation crops from."""
    margin = _margin(config)
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")


def _padded(images: np.ndarray, config: Config) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph-mode function from an index to the padded image."""
    if not isinstance(images, np.memmap):
        # Padded once, not per view: reflecting costs ten times as much as cropping. A variable, since tf.data
        # keeps a copy of its own of every constant that a function captures.
        with tf.device("CPU:0"):  # where tf.data works; a GPU's memory is for the network
            held = tf.Variable(pad(images, config), trainable=False)
        return lambda index: tf.gather(held, index)
    margin = _margin(config)

    def fetch(index: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(images.__getitem__, [index], tf.uint8, stateful=False)
        image = tf.ensure_shape(image, images.shape[1:])
        return tf.pad(image, [[margin, margin], [margin, margin], [0, 0]], mode="REFLECT")

    return fetch


def _margin(config: Config) -> int:
    return min(round(config.translate * config.image_size), config.image_size - 1)


def _positions(count: int, seed: tf.Tensor, start: int) -> tf.data.Dataset:
    """(position in the stream, index of its image), from position `start` on; each pass is a new shuffle."""
    first_pass = start // count

    def shuffled(number: tf.Tensor) -> tf.data.Dataset:
        indices = tf.random.experimental.stateless_shuffle(tf.range(count), tf.random.fold_in(seed, number))
        return tf.data.Dataset.from_tensor_slices(indices)

    indices = tf.data.Dataset.range(first_pass, _FOREVER).flat_map(shuffled).skip(start - first_pass * count)
    return indices.enumerate(start)
