"""GradCAM of the anomaly score of an image model (Section 4.2; Selvaraju et al., ICCV 2017).

A channel's weight is the mean of the anomaly score's gradient over all locations; the map is the ReLU of the weighted
sum of channels. For the feature map that is pooled and scored there is a closed form: at every location, the gradient
is the density's gradient divided by the number of locations. For any other layer, Keras' backend differentiates the
part of the network in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from cutpaste_tf import arrays, devices
from cutpaste_tf.backend import keras
from cutpaste_tf.density.density import Density
from cutpaste_tf.errors import InputError
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.networks.saliency import gradient
from cutpaste_tf.progress import Report, no_report, track


class GradCam:
    """Computes heat maps. Building its network takes longer than computing a map, so it is built once.

    Args:
        feature: image in [0, 1] -> pooled feature, from `build.feature_model`.
        layer: a layer of the backbone with output [batch, height, width, channels]; empty for the map that is pooled.

    Raises:
        InputError: the network has no such layer.
    """

    def __init__(self, feature: keras.Model, *, layer: str = ""):
        if layer:
            check_layer(feature, layer)
        self._feature, self._layer = feature, layer
        self._activations = keras.Model(feature.input, feature.get_layer("pool").input)

    def heat_maps(
        self, density: Density, images: np.ndarray, *, batch_size: int = 16, report: Report = no_report
    ) -> np.ndarray:
        """GradCAM maps, resized to the images' size.

        Args:
            density: the density fitted to the feature.
            images: uint8 [count, height, width, 3].
            batch_size: number of images at a time.

        Returns:
            float32 [count, height, width], 0 and above, bilinear; in memory up to 128 MiB, otherwise in a file.
        """
        height, width = images.shape[1:3]
        result = arrays.allocate(len(images), (height, width), np.float32)
        starts = range(0, len(images), batch_size)
        batches = zip(starts, arrays.batches(images, batch_size), strict=True)
        for start, pixels in track(batches, len(starts), "GradCAM, batches of images", report):
            batch = np.divide(pixels, np.float32(255))
            activations = np.asarray(devices.outputs(self._activations, batch), np.float32)
            weights = density.score_gradient(activations.mean(axis=(1, 2))) / np.prod(activations.shape[1:3])
            if self._layer:
                activations, slopes = differentiated(self._feature, self._layer, batch, weights)
                weights = slopes.mean(axis=(1, 2))
            maps = np.maximum(np.einsum("bhwc,bc->bhw", activations, weights, optimize=True), 0)
            for index, heat in enumerate(maps, start):
                result[index] = np.asarray(resize(Image.fromarray(heat.astype(np.float32)), width, height))
            arrays.release(result)
        return result


def check_layer(feature: keras.Model, name: str) -> None:
    """Checks that a network's backbone has a layer with this name whose output is a feature map.

    Raises:
        InputError: it does not.
    """
    backbone = _backbone(feature)
    if len(backbone.outputs) > 1:
        raise InputError(
            f"--gradcam_layer={name}: with several features, heat maps come from the features' own maps; omit it."
        )
    known = [layer.name for layer in backbone.layers[1:] if len(layer.output.shape) == 4]
    if name not in known:
        raise InputError(f"--gradcam_layer={name}: {backbone.name} has no such layer; it has: {', '.join(known)}.")


def differentiated(
    feature: keras.Model, layer: str, batch: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's output and the anomaly score's gradient with respect to it, by automatic differentiation.

    Args:
        feature: as in `GradCam`.
        layer: name of the layer.
        batch: float32 [batch, height, width, 3] in [0, 1].
        weights: the score's gradient [batch, channels] at each location of the last feature map.

    Returns:
        Both float32 [batch, height, width, channels].
    """
    backbone, x = _backbone(feature), keras.ops.convert_to_tensor(batch)
    for part in feature.layers:
        if isinstance(part, keras.layers.Normalization):
            x = part(x)
    upstream = keras.ops.convert_to_tensor(weights[:, None, None, :].astype(np.float32))

    def score(probe: Any) -> Any:
        last, _ = _run(backbone, x, layer, probe)
        return keras.ops.sum(keras.ops.cast(last, "float32") * upstream)  # pyright: ignore[reportOperatorIssue]

    _, output = _run(backbone, x, layer, 0.0)
    slopes = gradient(score, keras.ops.zeros_like(output))
    return _to_numpy(output), _to_numpy(slopes)


def _backbone(feature: keras.Model) -> keras.Model:
    return next(part for part in feature.layers if isinstance(part, keras.Model))


def _to_numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x), np.float32)


def _run(backbone: keras.Model, x: Any, name: str, probe: Any) -> tuple[Any, Any]:
    """(last output, output of layer `name`) of a backbone that runs layer by layer, with `probe` added at `name`."""
    values = {id(backbone.inputs[0]): x}
    output = None
    for layer in backbone.layers[1:]:
        inputs = layer.input
        arguments = [values[id(tensor)] for tensor in inputs] if isinstance(inputs, list) else values[id(inputs)]
        value = layer(arguments)
        if layer.name == name:
            output, value = value, value + probe
        values[id(layer.output)] = value
    return values[id(backbone.outputs[0])], output
