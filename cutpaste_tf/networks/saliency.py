"""Saliency with LayerCAM, and the salient pixels that CutSwap samples, computed once before training.

CutSwap is a follow-up to the paper. This implements its abstract: "we first employ LayerCAM to extract multilevel
image features as saliency maps and then perform clustering to obtain multiple centroids. [...] on
each map, we select a pixel pair from the cluster with the highest centroid saliency". The abstract leaves some choices
open. Here the network is torchvision's ImageNet ResNet-18, its four stages are the levels, the class is the one it
predicts, and the values of each map are clustered by k-means with k = 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from sklearn.cluster import KMeans

from cutpaste_tf import arrays as stores
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.networks import resnet
from cutpaste_tf.networks.build import IMAGENET_MEAN, IMAGENET_STD
from cutpaste_tf.progress import Report, no_report, track

STAGES = ("layer1_1", "layer2_1", "layer3_1", "layer4_1")
_CLUSTERS = 5


def mark(
    images: np.ndarray, arrays: dict[str, np.ndarray], *, batch_size: int = 16, report: Report = no_report
) -> np.ndarray:
    """Adds a channel that marks the salient pixels.

    Args:
        images: uint8 [count, height, width, 3].
        arrays: arrays of an ImageNet ResNet-18 with its classifier, by torchvision's names.
        batch_size: number of images at a time.

    Returns:
        uint8 [count, height, width, 4]; bit l of the last channel is set where the pixel is in the most salient cluster
        of level l.
    """
    maps = layer_cam(arrays)
    marked = stores.allocate(len(images), (*images.shape[1:3], 4))
    starts = range(0, len(images), batch_size)
    for start in track(starts, len(starts), "Finding salient pixels, batches", report):
        batch = images[start : start + batch_size]
        marked[start : start + len(batch), :, :, :3] = batch
        bits = np.zeros(batch.shape[:3], np.uint8)
        for level, values in enumerate(maps(batch)):
            for index, heat in enumerate(values):
                cluster = Image.fromarray(most_salient(heat))
                enlarged = cluster.resize((batch.shape[2], batch.shape[1]), Image.Resampling.NEAREST)
                bits[index] |= np.asarray(enlarged).astype(np.uint8) << level
        marked[start : start + len(batch), :, :, 3] = bits
    return marked


def layer_cam(arrays: dict[str, np.ndarray]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """LayerCAM (Jiang et al., TIP 2021): ReLU of the sum over channels of ReLU(gradient) * activation.

    The gradient is that of the logit of the class the network predicts.

    Args:
        arrays: arrays of an ImageNet ResNet-18 with its classifier.

    Returns:
        A function from uint8 [batch, height, width, 3] to a map float32 [batch, height, width] for each of STAGES.
    """
    backbone = resnet.resnet18("imagenet")
    resnet.set_arrays(backbone, arrays)
    stages = keras.Model(backbone.input, [backbone.get_layer(name).output for name in STAGES])
    rests = [keras.Model(backbone.get_layer(name).output, backbone.output) for name in STAGES[:-1]]
    weight, bias = arrays["fc.weight"].T, arrays["fc.bias"]

    def logits(last: Any) -> Any:
        return keras.ops.matmul(keras.ops.mean(last, axis=(1, 2)), weight) + bias

    def maps(batch: np.ndarray) -> list[np.ndarray]:
        normalized = (batch.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
        activations = stages(keras.ops.convert_to_tensor(normalized.astype(np.float32)), training=False)
        chosen = keras.ops.one_hot(keras.ops.argmax(logits(activations[-1]), axis=-1), len(bias))
        result = []
        for level, activation in enumerate(activations):
            rest = rests[level] if level < len(rests) else None

            def score(x: Any, rest: keras.Model | None = rest) -> Any:
                last = x if rest is None else rest(x, training=False)
                return keras.ops.sum(logits(last) * chosen)

            weighted = keras.ops.relu(gradient(score, activation)) * activation
            result.append(keras.ops.convert_to_numpy(keras.ops.relu(keras.ops.sum(weighted, axis=-1))))
        return result

    return maps


def gradient(function: Callable[[Any], Any], x: Any) -> Any:
    """Gradient of a scalar function at the tensor x, on Keras' backend."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)


def most_salient(values: np.ndarray) -> np.ndarray:
    """The pixels of a map whose values belong to the cluster with the highest centroid.

    Args:
        values: float32 [height, width].

    Returns:
        bool [height, width].
    """
    points = values.reshape(-1, 1).astype(np.float64)
    clusters = min(_CLUSTERS, len(np.unique(points)))
    fitted = KMeans(clusters, n_init=1, random_state=0).fit(points)  # pyright: ignore[reportArgumentType]
    return (fitted.labels_ == np.argmax(fitted.cluster_centers_)).reshape(values.shape)
