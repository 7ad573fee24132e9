"""Sets batch norm's statistics from images, without training.

In an untrained network they are mean 0 and variance 1, so batch norm normalizes nothing. With the images' statistics,
the network is in the same state as after training with a learning rate of zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from cutpaste_tf.backend import keras
from cutpaste_tf.settings.sizes import Size


def calibrate_batch_norm(network: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Sets moving mean and variance to the means of the batches' values, weighted by batch size.

    Nothing else in the network changes; previous statistics are discarded, and frozen batch norm is left unchanged.

    Args:
        network: a network with input float32 [batch, height, width, 3] in [0, 1], such as `build.Networks.feature`.
        batches: such images; each batch is normalized by its own statistics, as in training.
    """
    layers = list(_batch_norms(network))
    momenta = [layer.momentum for layer in layers]
    count = 0
    try:
        for batch in batches:
            for layer in layers:  # the update is moving * momentum + batch * (1 - momentum)
                layer.momentum = count / (count + len(batch))
            network(batch, training=True)
            count += len(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def batches(images: np.ndarray, view_size: Size, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Every image once, in shuffled order, for `calibrate_batch_norm`.

    Args:
        images: uint8 [n, height, width, 3].
        view_size: size of the network's training views; if smaller than the images, a random crop of each is used.
        batch_size: size of all batches but the last.
        seed: seed for the shuffle and the crops.

    Yields:
        float32 [<= batch_size, *view_size, 3] in [0, 1].
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    height, width = view_size
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    corners = [(rng.integers(rows), rng.integers(columns)) for _ in range(len(images))]
    for start in range(0, len(images), batch_size):
        chosen = order[start : start + batch_size]
        crops = [images[i, y : y + height, x : x + width] for i in chosen for y, x in [corners[i]]]
        yield np.stack(crops).astype(np.float32) / 255


def _batch_norms(network: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _batch_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            yield layer
