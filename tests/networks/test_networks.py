"""Parameter counts, stems, initialization, ImageNet weights, and the same logits on JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, networks_of

from cutpaste_tf.networks import build, resnet, weights
from cutpaste_tf.settings.config import Config


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def test_resnet18_has_torchvisions_parameters():
    backbone = resnet.resnet18("imagenet")
    assert trainable(backbone) == 11_176_512
    assert trainable(backbone) == sum(
        int(np.prod(shape)) for name, shape in weights.resnet18_shapes("imagenet").items() if "running" not in name
    )
    assert trainable(resnet.resnet18("small")) == 11_176_512 - 3 * 64 * (49 - 9)


def test_head_has_the_stated_layers():
    nets = networks_of(Config())
    # 512x512 without bias, batch norm, 512x128 with bias, 128x3 with bias.
    assert trainable(nets.classifier) == 11_176_512 + 512 * 512 + 2 * 512 + 512 * 128 + 128 + 128 * 3 + 3
    droc = networks_of(Config.of(head_dims=(512,) * 8))
    assert trainable(droc.classifier) == 11_176_512 + 7 * (512 * 512 + 2 * 512) + 512 * 512 + 512 + 512 * 3 + 3
    assert nets.feature.output.shape == (None, 512)
    assert nets.embedding.output.shape == (None, 128)


@pytest.mark.parametrize(("stem", "side", "map_side"), [("imagenet", 256, 8), ("small", 64, 8), ("small", 32, 4)])
def test_feature_map_size(stem, side, map_side):
    assert resnet.resnet18(stem)(np.zeros((1, side, side, 3), np.float32)).shape == (1, map_side, map_side, 512)


def test_stem_follows_the_image_size():
    assert Config.of(image_size=128).resolved().network.stem == "imagenet"
    assert Config.of(image_size=64).resolved().network.stem == "small"
    assert Config.of(image_size=64, stem="imagenet").network.stem == "imagenet"


def test_convolutions_start_from_fan_out_variance_and_the_seed_decides():
    keras.utils.set_random_seed(3)
    first = resnet.resnet18("imagenet")
    kernel = first.get_layer("layer3_1_conv1").kernel
    assert float(np.std(kernel)) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(
        resnet.resnet18("imagenet").get_layer("conv1").kernel, first.get_layer("conv1").kernel
    )


def fake_weights(stem="imagenet"):
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(0.5, 1.0, shape) / max(1, np.prod(shape[1:])) ** 0.5
              for name, shape in weights.resnet18_shapes(stem).items()}  # fmt: skip
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def convolve(x, kernel, stride, padding):
    """PyTorch's Conv2d of one image [height, width, channels] with a kernel [out, in, height, width]."""
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(0, 1))[::stride, ::stride]
    return np.einsum("yxchw,ochw->yxo", windows, kernel)


def normalize(x, arrays, name):
    """PyTorch's BatchNorm2d in evaluation mode."""
    scale = arrays[f"{name}.weight"] / np.sqrt(arrays[f"{name}.running_var"] + 1e-5)
    return (x - arrays[f"{name}.running_mean"]) * scale + arrays[f"{name}.bias"]


def test_loaded_weights_give_pytorchs_layers(tmp_path):
    """Stem, max-pool and the first strided block by hand, padding as PyTorch pads."""
    arrays = fake_weights()
    np.savez(tmp_path / "w.npz", **arrays, **{"fc.weight": np.zeros((1000, 512), np.float32)})
    backbone = resnet.resnet18("imagenet")
    resnet.set_arrays(backbone, weights.read_resnet18(str(tmp_path / "w.npz"), "imagenet"))
    image = np.random.default_rng(1).uniform(0, 1, (1, 32, 32, 3)).astype(np.float32)
    layers = ["relu1", "maxpool", "layer1_1", "layer2_0"]
    outputs = keras.Model(backbone.input, [backbone.get_layer(name).output for name in layers])(image)
    stem, pooled, before, block = (np.asarray(output)[0] for output in outputs)

    expected = np.maximum(0, normalize(convolve(image[0], arrays["conv1.weight"], 2, 3), arrays, "bn1"))
    np.testing.assert_allclose(stem, expected, rtol=1e-4, atol=1e-5)
    padded = np.pad(stem, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))[::2, ::2]
    np.testing.assert_array_equal(pooled, windows.max(axis=(-2, -1)))

    x = convolve(before, arrays["layer2.0.conv1.weight"], 2, 1)
    x = np.maximum(0, normalize(x, arrays, "layer2.0.bn1"))
    x = normalize(convolve(x, arrays["layer2.0.conv2.weight"], 1, 1), arrays, "layer2.0.bn2")
    shortcut = convolve(before, arrays["layer2.0.downsample.0.weight"], 2, 0)
    shortcut = normalize(shortcut, arrays, "layer2.0.downsample.1")
    np.testing.assert_allclose(block, np.maximum(0, x + shortcut), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("normalization", "divisor"),
    [("auto", build.IMAGENET_STD), ("imagenet_sqrt_std", np.sqrt(build.IMAGENET_STD)), ("none", 1)],
)
def test_normalization_is_inside_the_model(normalization, divisor):
    config = Config.of(weights="given", normalization=normalization)
    nets = networks_of(config)
    image = np.random.default_rng(0).uniform(0, 1, (1, 128, 128, 3)).astype(np.float32)
    normalized = image if normalization == "none" else (image - np.array(build.IMAGENET_MEAN)) / divisor
    by_hand = np.asarray(nets.backbone(normalized.astype(np.float32))).mean((1, 2))
    np.testing.assert_allclose(nets.feature(image), by_hand, rtol=1e-3, atol=1e-4)


# Logits; and what localizes: patches both ways, GradCAM at a layer inside the network.
_COMPUTE = """
import sys
import numpy as np
from cutpaste_tf.backend import keras
from cutpaste_tf.settings.config import Config
from cutpaste_tf.density.gaussian import GaussianDensity
from cutpaste_tf.detection import dense, gradcam
from cutpaste_tf.networks import build


def compute(backend, weights, folder):
    assert keras.backend.backend() == backend
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    config = Config.of(image_size=64, patch_size=64, stride=8, stem="imagenet").resolved()
    nets = build.build(config.network, 3)
    nets.classifier.load_weights(weights)
    np.save(f"{folder}/logits.npy", nets.classifier(images.astype(np.float32) / 255))
    for kind in ("exact", "fast"):
        embed = dense.function(nets.feature, 64, config.features.replaced(dense=kind))
        np.save(f"{folder}/{kind}.npy", embed(images[0]))
    density = GaussianDensity(reg_covar=1e-3).fit(rng.normal(size=(30, 512)))
    for layer in ("", "layer3_0_conv1"):
        np.save(f"{folder}/map{layer}.npy", gradcam.GradCam(nets.feature, layer=layer).heat_maps(density, images))
"""


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The same weights' results on both backends: name -> (TensorFlow's, JAX's)."""
    pytest.importorskip("jax")
    place = tmp_path_factory.mktemp("backends")
    config = Config.of(image_size=64, patch_size=64, stem="imagenet")
    networks_of(config).classifier.save_weights(place / "w.weights.h5")
    for backend in ("tensorflow", "jax"):
        (place / backend).mkdir()
    namespace = {}
    exec(_COMPUTE, namespace)
    namespace["compute"]("tensorflow", place / "w.weights.h5", place / "tensorflow")
    there = _COMPUTE + "\n\ncompute(*sys.argv[1:])"
    arguments = ["jax", place / "w.weights.h5", place / "jax"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", there, *arguments], cwd=ROOT, env=environment, check=True)
    names = [path.stem for path in (place / "jax").iterdir()]
    return {name: [np.load(place / backend / f"{name}.npy") for backend in ("tensorflow", "jax")] for name in names}


def test_same_weights_give_the_same_logits_on_jax(computed):
    ours, other = computed["logits"]
    assert np.ptp(ours) > 1e-3
    np.testing.assert_allclose(other, ours, atol=1e-4)


def test_what_localizes_is_the_same_on_jax(computed):
    for name in ("exact", "fast", "map", "maplayer3_0_conv1"):
        ours, other = computed[name]
        assert ours.max() > 0
        np.testing.assert_allclose(other, ours, atol=1e-3 * ours.max())
