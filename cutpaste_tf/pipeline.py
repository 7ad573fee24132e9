"""From images to batches of views: shuffled, augmented and prefetched by tf.data.

Randomness is an argument throughout: image i of the endless stream is augmented with
fold_in(seed, i), and pass p over the images is shuffled with fold_in(seed, p). So the same seed
gives the same bits whatever the parallelism, and the stream can start at any step.
"""

import numpy as np
import tensorflow as tf

from cutpaste_tf import proxy_tasks
from cutpaste_tf.config import Config

_FOREVER = 2**62


def stream(images: np.ndarray, config: Config, *, start_step: int = 0) -> tf.data.Dataset:
    """The endless stream of training batches.

    Args:
        images: uint8 [count, side, side, 3], the normal training images.
        config: the run's configuration.
        start_step: the first batch to give; a resumed run goes on where it stopped.

    Returns:
        Batches of views float32 [batch_size, side, side, 3] in [0, 1] and labels int32 [batch_size].
        The views of one image stand together, in the order of their labels.
    """
    views = len(config.views)
    per_step = config.batch_size // views
    # Stateless ops want a seed of two integers; folding keeps order and augmentation apart.
    order_seed, view_seed = tf.unstack(tf.random.split([config.seed, 0], 2))
    with tf.device("CPU:0"):  # where tf.data works; a GPU's memory is for the network
        padded = tf.constant(pad(images, config))
    task = proxy_tasks.TASKS[config.proxy_task]

    def augment(position: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return task(padded[index], tf.random.fold_in(view_seed, position), config)

    def flatten(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        side = config.image_size
        return tf.reshape(images, [config.batch_size, side, side, 3]), tf.reshape(labels, [config.batch_size])

    dataset = _positions(len(images), order_seed, start_step * per_step)
    dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(per_step, drop_remainder=True).map(flatten)
    options = tf.data.Options()
    # One thread per image: faster than many threads for each small operation, and the order in
    # which a sum is taken, hence its last bit, does not depend on the number of cores.
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def pad(images: np.ndarray, config: Config) -> np.ndarray:
    """Adds the reflected border that random translation crops from.

    Done once, not per view: reflecting costs ten times as much as cropping.
    """
    margin = round(config.translate * config.image_size)
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")


def _positions(count: int, seed: tf.Tensor, start: int) -> tf.data.Dataset:
    """(position in the stream, index of its image), from position `start` on; each pass is a new shuffle."""
    first_pass = start // count

    def shuffled(number: tf.Tensor) -> tf.data.Dataset:
        indices = tf.random.experimental.stateless_shuffle(tf.range(count), tf.random.fold_in(seed, number))
        return tf.data.Dataset.from_tensor_slices(indices)

    indices = tf.data.Dataset.range(first_pass, _FOREVER).flat_map(shuffled).skip(start - first_pass * count)
    return indices.enumerate(start)
