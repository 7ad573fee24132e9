"""Sets batch norm's statistics from images, without training.

In an untrained network they are mean 0 and variance 1, so that batch norm normalizes nothing. With statistics of the
images, the network is as after training with a learning rate of zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from cutpaste_tf.backend import keras


def calibrate_batch_norm(network: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Sets moving mean and variance to the means of those of the batches, weighted by batch size.

    Nothing else in the network changes; previous statistics are discarded, and frozen batch norm is left alone.

    Args:
        network: from float32 [batch, height, width, 3] in [0, 1], as `build.Networks.feature`.
        batches: such images, each batch normalized by its own statistics, as in training.
    """
    layers = list(_batch_norms(network))
    momenta = [layer.momentum for layer in layers]
    count = 0
    try:
        for batch in batches:
            for layer in layers:  # the update is moving * momentum + batch's * (1 - momentum)
                layer.momentum = count / (count + len(batch))
            network(batch, training=True)
            count += len(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _batch_norms(network: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _batch_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            yield layer
