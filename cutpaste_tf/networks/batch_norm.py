"""Batch norm's statistics of given images, without a step of learning.

A network that was never trained has mean 0 and variance 1 there, so that its batch norm normalizes nothing. With the
statistics of the images it computes what training with a learning rate of zero would leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from cutpaste_tf.backend import keras


def calibrate_batch_norm(network: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Sets moving mean and moving variance to the mean of those of the batches, weighted by their sizes.

    Nothing else of the network changes; what batch norm had before does not count, and frozen batch norm stays.

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
