import keras
import numpy as np
import pytest
from conftest import networks_of
from PIL import Image

from cutpaste_tf.density.gaussian import GaussianDensity, LedoitWolfDensity, MixtureDensity
from cutpaste_tf.density.kernel import KernelEstimate
from cutpaste_tf.detection import gradcam
from cutpaste_tf.detection.image_detector import ImageDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import build
from cutpaste_tf.networks.saliency import gradient
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config

DENSITIES = {
    "gaussian": lambda: GaussianDensity(reg_covar=1e-4),
    "unscaled": lambda: GaussianDensity(reg_covar=1e-4, l2_normalize=False),
    "ledoit_wolf": LedoitWolfDensity,
    "mixture": lambda: MixtureDensity(components=2, reg_covar=1e-3),
    "kde": lambda: KernelEstimate(bandwidth=0.2),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_score_s_gradient_is_its_slope(name):
    rng = np.random.default_rng(0)
    fitted = DENSITIES[name]().fit(rng.normal(1, 0.3, (30, 6)))
    x, direction = rng.normal(1, 0.3, (4, 6)), rng.normal(size=6)
    slope = -(fitted.score_samples(x + 1e-6 * direction) - fitted.score_samples(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(fitted.score_gradient(x) @ direction, slope, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def setting():
    keras.utils.set_random_seed(0)
    nets = networks_of(Config.of(stem="imagenet", head_dims=(8,), image_size=64, normalization="imagenet"))
    pictures = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    features = nets.feature.predict_on_batch(pictures.astype(np.float32) / 255)
    return nets, GaussianDensity(reg_covar=1e-4).fit(features[:6]), pictures[6:]


@pytest.mark.parametrize(
    ("options", "name"), [({}, "layer4_1"), ({"layer": "layer4_1"}, "layer4_1"), ({"layer": "layer3_1"}, "layer3_1")]
)
def test_maps_are_gradcam_of_the_whole_score(setting, options, name):
    """The network is cut in two at the layer, the score written in Keras' operations and differentiated as one."""
    nets, density, pictures = setting
    backbone = nets.backbone
    normalize = next(part for part in nets.feature.layers if isinstance(part, keras.layers.Normalization))
    to_layer = keras.Model(backbone.input, backbone.get_layer(name).output)
    last = name == "layer4_1"
    after = None if last else keras.Model(backbone.get_layer(name).output, backbone.output)
    activations = to_layer(normalize(pictures.astype(np.float32) / 255))
    arrays = density.to_arrays()
    mean, whitening = (arrays[k][0].astype(np.float32) for k in ("means", "precisions_cholesky"))

    def score(x):
        pooled = keras.ops.mean(x if last else after(x), axis=(1, 2))
        unit = pooled / keras.ops.norm(pooled, axis=1, keepdims=True)
        return 0.5 * keras.ops.sum(keras.ops.matmul(unit - mean, whitening) ** 2)

    slopes = np.asarray(gradient(score, activations))
    maps = np.maximum(np.einsum("bhwc,bc->bhw", np.asarray(activations), slopes.mean(axis=(1, 2))), 0)
    expected = [np.asarray(Image.fromarray(heat).resize((64, 64), Image.Resampling.BILINEAR)) for heat in maps]
    actual = gradcam.GradCam(nets.feature, **options).heat_maps(density, pictures)
    assert actual.shape == (3, 64, 64)
    assert actual.max() > 0
    np.testing.assert_allclose(actual, expected, atol=1e-3 * actual.max())


def test_any_layer_s_gradient_is_the_score_s_slope(setting):
    """Inside a residual block, where the network cannot be cut in two."""
    nets, _, pictures = setting
    backbone, name = nets.backbone, "layer3_0_conv1"
    batch = pictures[:1].astype(np.float32) / 255
    x = next(part for part in nets.feature.layers if isinstance(part, keras.layers.Normalization))(batch)
    weights = np.random.default_rng(1).normal(size=(1, 512)).astype(np.float32)
    output, slopes = gradcam.differentiated(nets.feature, name, batch, weights)
    assert output.shape == slopes.shape == (1, 4, 4, 256)
    direction = slopes / np.linalg.norm(slopes)

    def value(step):
        last, _ = gradcam._run(backbone, x, name, step * direction)
        return float(np.sum(np.asarray(last) * weights[:, None, None, :]))

    assert (value(1e-2) - value(-1e-2)) / 2e-2 == pytest.approx(np.linalg.norm(slopes), rel=0.02)


def test_an_unknown_layer_is_refused(setting):
    nets, _, _ = setting
    with pytest.raises(InputError, match=r"--gradcam_layer=conv9: resnet18 has no such layer; it has: .*layer4_1"):
        gradcam.GradCam(nets.feature, layer="conv9")


def test_its_network_is_built_once(setting, monkeypatch):
    nets, density, pictures = setting
    detector = ImageDetector(nets.feature, Config.of(stem="imagenet", image_size=64), TrainingData({}, 255))
    detector._density = density
    first = detector.localize(pictures)
    monkeypatch.setattr(keras, "Model", None)
    np.testing.assert_array_equal(detector.localize(pictures), first)


def test_features_of_several_stages_have_maps_at_the_coarsest_stage(setting):
    nets, _, pictures = setting
    feature = build.feature_model(nets.feature, "layer3,layer4")
    detector = ImageDetector(nets.feature, Config.of(image_size=64, feature="layer3,layer4"), TrainingData({}, 255))
    scores = detector.fit(pictures).score(pictures, heat_maps=True)
    assert feature.get_layer("pool").input.shape[1:] == (None, None, 256 + 512)
    assert scores.heat_maps.shape == (3, 64, 64)
    assert scores.heat_maps.max() > 0
    with pytest.raises(InputError, match="--gradcam_layer=layer3_1: with several features"):
        gradcam.check_layer(feature, "layer3_1")
