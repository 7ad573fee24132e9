"""Reads and checks files of pretrained weights, without TensorFlow.

Files for ResNet-18 have arrays with torchvision's names (`layer1.0.conv1.weight`) and convolutions as [out, in, height,
width]. Files for EfficientNet are Keras weights files.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import download, tensor_files

STAGE_WIDTHS = (64, 128, 256, 512)


def resnet18_shapes(stem: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in torchvision's ResNet-18, without the classifier."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv_and_norm(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        shapes[f"{conv}.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = shape[:1]

    kernel = 7 if stem == "imagenet" else 3
    conv_and_norm("conv1", "bn1", (64, 3, kernel, kernel))
    before = 64
    for stage, width in enumerate(STAGE_WIDTHS, start=1):
        for block in range(2):
            prefix = f"layer{stage}.{block}"
            conv_and_norm(f"{prefix}.conv1", f"{prefix}.bn1", (width, before, 3, 3))
            conv_and_norm(f"{prefix}.conv2", f"{prefix}.bn2", (width, width, 3, 3))
            if before != width:
                conv_and_norm(f"{prefix}.downsample.0", f"{prefix}.downsample.1", (width, before, 1, 1))
            before = width
    return shapes


def read_resnet18(weights: str, stem: str, *, classifier: bool = False, flag: str = "weights") -> dict[str, np.ndarray]:
    """Reads the arrays of a ResNet-18.

    Args:
        weights: a file that `tensor_files` reads, or `imagenet` for torchvision's, which is downloaded if missing.
        stem: the network's stem, `imagenet` or `small`.
        classifier: whether the classification layer `fc` is needed too.
        flag: the flag that gave the file, for messages.

    Raises:
        InputError: the file is missing, cannot be downloaded or read, or is from another network (the message names the
            first array that is missing or does not fit).
    """
    path = download.fetch(download.RESNET18, flag) if weights == "imagenet" else Path(weights).expanduser()
    option = f"--{flag}={weights}"
    try:
        arrays = tensor_files.read(path)
    except FileNotFoundError:
        raise InputError(f"{option} does not exist; give a file, or imagenet.") from None
    except tensor_files.PickleFileError:
        raise InputError(
            f"{option} is a PyTorch pickle, which could run arbitrary code. Convert it where PyTorch is installed: "
            f"safetensors.torch.save_file(torch.load({str(path)!r}, weights_only=True), "
            f"{str(path.with_suffix('.safetensors'))!r}); then give that file."
        ) from None
    except tensor_files.NotTensorsError as error:
        raise InputError(
            f"{option} is not a file of torchvision's ResNet-18 arrays ({', '.join(tensor_files.READERS)}), or it is "
            f"damaged ({error})."
        ) from None
    shapes = resnet18_shapes(stem) | ({"fc.weight": (1000, 512), "fc.bias": (1000,)} if classifier else {})
    extra = [
        name for name in arrays if name not in shapes and not name.startswith("fc.") and not name.endswith("tracked")
    ]
    if extra:
        raise InputError(f"{option} is from another network: a ResNet-18 has no array {extra[0]}.")
    for name, shape in shapes.items():
        if name not in arrays:
            raise InputError(f"{option} has no array {name}, so it is not from a ResNet-18.")
        if arrays[name].shape != shape:
            hint = "; try --stem=imagenet" if name == "conv1.weight" and stem == "small" else ""
            raise InputError(
                f"{option} is from another network: {name} has the shape {arrays[name].shape}, but a ResNet-18 with "
                f"the {stem} stem needs {shape}{hint}."
            )
    if odd := [name for name in shapes if arrays[name].dtype.kind != "f" or not np.isfinite(arrays[name]).all()]:
        raise InputError(f"{option} is damaged: {odd[0]} has values that are not finite numbers.")
    return {name: arrays[name] for name in shapes}


def read_saliency_network(weights: str) -> dict[str, np.ndarray]:
    """Reads the ImageNet ResNet-18 with its classifier, for CutSwap's saliency; see `read_resnet18`."""
    return read_resnet18(weights, "imagenet", classifier=True, flag="saliency_weights")


def read_keras_weights(path: str) -> dict[str, list[np.ndarray]]:
    """Arrays by layer of a Keras weights file, in the layout of Keras 3 (`.weights.h5`) or the older one (`.h5`).

    Raises:
        InputError: the file is missing, damaged, or not a weights file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"--weights={path} does not exist; give a file, or `imagenet` to download Keras' own.")
    try:
        with h5py.File(file) as opened:
            return dict(_stored_layers(opened))
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"--weights={path} is not a Keras weights file, or it is damaged ({error}).") from None


def _stored_layers(file: Any) -> Iterator[tuple[str, list[np.ndarray]]]:
    if "layers" in file:
        for key, group in file["layers"].items():
            variables = group.get("vars", {})
            if len(variables):
                yield f"layers/{key}", [np.asarray(variables[str(index)]) for index in range(len(variables))]
        return
    root = file.get("model_weights", file)
    for name in root.attrs["layer_names"]:
        name = name.decode() if isinstance(name, bytes) else name
        paths = [path.decode() if isinstance(path, bytes) else path for path in root[name].attrs["weight_names"]]
        if paths:
            yield name, [np.asarray(root[name][path]) for path in paths]
