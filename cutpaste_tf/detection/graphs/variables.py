"""Stores the arrays of a graph in variables."""

from __future__ import annotations

from typing import Any

from cutpaste_tf.backend import keras, tf


def keep(array: Any, name: str, number: Any = None) -> Any:
    """An array as a variable that is not trained; a constant would be written into each graph that uses it.

    Args:
        array: numbers of any shape.
        name: name of the variable.
        number: its dtype, such as tf.float32; by default the array's.
    """
    make: Any = tf.Variable
    return make(array, trainable=False, name=name, dtype=number)


def keep_normalization(network: keras.Model) -> None:
    """Stores the constants of a network's input normalization in variables; ONNX would make them inputs."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = keep(layer.mean, "mean"), keep(layer.variance, "variance")
