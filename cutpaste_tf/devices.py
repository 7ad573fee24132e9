"""Data parallelism over the devices of this host.

With Keras on JAX, these are GPUs, TPUs or CPUs; on TensorFlow, GPUs. Each device has a copy of the network and its
share of every batch; sums over a batch (gradients, batch norm's moments, metrics) are over all devices.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cutpaste_tf import environment
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.errors import InputError

AUTO = "auto"  # number of devices: all of them


class _State:
    """The devices in use and, if there are several, the distribution of batches."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.distribution: Any = None  # keras.distribution.DataParallel, or tf.distribute.Strategy
        self.functions: weakref.WeakKeyDictionary[Any, Callable[[np.ndarray], np.ndarray]]
        self.functions = weakref.WeakKeyDictionary()


_state = _State()


@contextlib.contextmanager
def used(requested: str = AUTO, *, batch_size: int = 0) -> Iterator[None]:
    """Distributes computations in the block.

    Args:
        requested: number of devices, or `auto`: as many of the devices that Keras finds as can share a batch.
        batch_size: the batch size in training, which the devices share.

    Raises:
        InputError: there are fewer devices, or they cannot share a batch.
    """
    available = _available()
    if requested != AUTO and not (requested.isdigit() and 0 < int(requested) <= len(available)):
        raise InputError(
            f"--devices={requested} must be auto or a number up to {len(available)}: found {', '.join(available)}."
        )
    fitting = max(count for count in range(1, len(available) + 1) if batch_size % count == 0)
    chosen = available[: fitting if requested == AUTO else int(requested)]
    if batch_size % len(chosen):
        raise InputError(f"--batch_size={batch_size} must be a multiple of the number of devices, {len(chosen)}.")
    distribution = _distribution(chosen) if len(chosen) > 1 else None
    _state.names, _state.distribution = chosen, distribution
    try:
        with distribution.scope() if distribution else contextlib.nullcontext():
            yield
    finally:
        _state.names, _state.distribution = [], None
        _state.functions.clear()


def _distribution(chosen: list[str]) -> Any:
    """The distribution of batches over the devices."""
    if environment.backend() == "jax":
        return keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
    tf.get_logger().setLevel("WARNING")  # it logs every reduction
    return tf.distribute.MirroredStrategy([name.upper() for name in chosen])


def names() -> list[str]:
    """The devices in use, such as `gpu:0`."""
    return _state.names


def memory() -> int:
    """Memory of a device in bytes; 0 if unknown, as for CPUs."""
    if environment.backend() != "jax":
        return 0
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)


def _available() -> list[str]:
    """The devices that can be used."""
    if environment.backend() == "jax":
        return keras.distribution.list_devices()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return [device.name.removeprefix("/device:").lower() for device in tf.config.list_logical_devices(kind)]


@contextlib.contextmanager
def synchronized(network: keras.Model) -> Iterator[None]:
    """Synchronizes batch norm across devices in training: JAX always does, TensorFlow needs a layer option."""
    batch_norms: list[Any] = []
    if _state.distribution is not None and environment.backend() == "tensorflow":
        layers: Any = network._flatten_layers()
        batch_norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in batch_norms:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in batch_norms:  # the saved network must also run on one device
            layer.synchronized = False


def outputs(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    """The output of a network for a batch, computed on all devices.

    Args:
        network: a network with one output.
        batch: [count, ...].

    Returns:
        [count, ...].
    """
    if _state.distribution is None:
        return np.asarray(network.predict_on_batch(batch))
    if network not in _state.functions:
        make = _on_jax if environment.backend() == "jax" else _on_tensorflow
        _state.functions[network] = make(weakref.proxy(network))
    missing = -len(batch) % len(_state.names)
    padded = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)]) if missing else batch
    return _state.functions[network](padded)[: len(batch)]


def _on_jax(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    import jax

    mesh = _state.distribution.device_mesh.backend_mesh
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(_state.distribution.batch_dim_name))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    @functools.partial(jax.jit, out_shardings=everywhere)
    def call(trainable: Any, other: Any, x: Any) -> Any:
        return network.stateless_call(trainable, other, x, training=False)[0]

    def run(padded: np.ndarray) -> np.ndarray:
        x = jax.device_put(padded, spread)
        variables = [
            [variable.value for variable in kind]
            for kind in (network.trainable_variables, network.non_trainable_variables)
        ]
        return np.asarray(call(*variables, x))

    return run


def _on_tensorflow(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    strategy = _state.distribution

    @tf.function
    def call(x: Any) -> Any:
        return strategy.run(lambda share: network(share, training=False), args=(x,))

    def run(padded: np.ndarray) -> np.ndarray:
        parts = np.split(padded, strategy.num_replicas_in_sync)
        x = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )
        return np.concatenate([part.numpy() for part in strategy.experimental_local_results(call(x))])

    return run
