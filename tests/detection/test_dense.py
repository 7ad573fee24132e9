import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import networks_of

from cutpaste_tf import devices
from cutpaste_tf.detection import dense, image_features, patch_detector
from cutpaste_tf.detection.patch_detector import PatchDetector
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import build, resnet
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config

SETTINGS = Config.of(image_size=96, patch_size=64, extract_size=32, stride=16, head_dims=(8,), scar_max_length=20)


def _feature(config: Config) -> keras.Model:
    """A network whose batch norm does something."""
    keras.utils.set_random_seed(1)
    nets = networks_of(config)
    rng = np.random.default_rng(0)
    for layer in nets.backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return nets.feature


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(2).integers(0, 256, (96, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def feature():
    return _feature(SETTINGS.replaced(stem="imagenet", normalization="imagenet"))


@pytest.mark.parametrize(
    ("stem", "size", "stride"), [("imagenet", 32, 16), ("imagenet", 64, 8), ("imagenet", 32, 4), ("small", 32, 32)]
)
def test_exact_features_are_those_of_each_patch_alone(feature, image, stem, size, stride, monkeypatch):
    monkeypatch.setattr(dense, "_PIXELS", 7 * size**2)  # batches that do not come out even
    feature = feature if stem == "imagenet" else _feature(SETTINGS)
    config = SETTINGS.replaced(extract_size=size, stride=stride)
    features = dense.function(feature, config.data.size, config.features)(image)
    side, _ = dense.places(config.data.size, config.features)
    assert features.shape == (side**2, 512)
    assert features.dtype == np.float32
    for place in (0, side - 1, side, side**2 // 2, side**2 - 1):
        top, left = stride * (place // side), stride * (place % side)
        alone = feature.predict_on_batch(image[None, top : top + size, left : left + size].astype(np.float32) / 255)
        np.testing.assert_allclose(features[place], np.asarray(alone)[0], rtol=1e-4, atol=1e-4 * np.abs(alone).max())


@pytest.mark.parametrize("kind", ["exact", "fast"])
def test_an_image_of_another_size_is_refused(feature, image, kind):
    embed = dense.function(feature, 96, SETTINGS.features.replaced(dense=kind))
    with pytest.raises(ValueError, match=r"shape \(128, 96, 3\), expected \(96, 96, 3\)"):
        embed(np.zeros((128, 96, 3), np.uint8))


def test_patches_are_scored_image_by_image_in_bounded_memory(monkeypatch):
    """Features of at most three images are held; the scores stand in the images' order."""
    scored = []

    class Density:
        peak = 1.0

        def score_samples(self, features):
            scored.append(len(features))
            return 1.0 - features[:, :, 0]

    monkeypatch.setattr(patch_detector, "_TOGETHER", 3 * 9 * 2 * 4)
    images = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None, None], (8, 4, 4, 3))
    computed = []

    def each(images):
        for number in images[:, 0, 0, 0]:
            assert len(computed) - sum(scored) < 3  # no image is embedded before those before it are scored
            computed.append(number)
            yield np.full((9, 2), number, np.float32)

    detector = PatchDetector(Path("unused"), Config.of(patch_size=64, image_size=96, stride=32), TrainingData({}, 255))
    detector.embed_patches, detector._density = dense.PatchEmbedder(each, (4, 4)), Density()
    embedded = detector.embed(images)
    assert scored == [3, 3, 2]
    np.testing.assert_array_equal(embedded, np.broadcast_to(np.arange(8)[:, None, None], (8, 3, 3)))


@pytest.mark.parametrize(("stem", "stride", "tiles"), [("imagenet", 32, 5), ("small", 8, 3)])
def test_a_dilated_network_gives_the_network_s_own_places_and_those_between(image, stem, stride, tiles):
    backbone = resnet.resnet18(stem)
    x = image[None].astype(np.float32) / 255
    original = np.asarray(backbone.predict_on_batch(x))
    dilated = np.asarray(dense.dilate(backbone, 4).predict_on_batch(x))
    assert dilated.shape == (1, 24, 24, 512)
    np.testing.assert_allclose(
        dilated[:, :: stride // 4, :: stride // 4], original, rtol=1e-4, atol=1e-4 * original.max()
    )
    # A place between: the network's own first place after the image is moved, away from the border's padding.
    wide = np.tile(x, (1, tiles, tiles, 1))
    moved = np.asarray(backbone.predict_on_batch(wide[:, 4:, 8:]))
    between = np.asarray(dense.dilate(backbone, 4).predict_on_batch(wide))
    middle = 128 * (tiles // 2) // stride
    np.testing.assert_allclose(
        between[0, 32 * (tiles // 2) + 1, 32 * (tiles // 2) + 2],
        moved[0, middle, middle],
        rtol=1e-3,
        atol=1e-3 * moved.max(),
    )


@pytest.mark.parametrize(
    ("stem", "size", "stride", "expected"),
    [
        ("imagenet", 32, 16, [16]),  # a patch's one place, in its middle
        ("imagenet", 64, 8, [16, 48]),
        ("small", 32, 4, [4, 12, 20, 28]),
        ("small", 32, 8, [4, 12, 20, 28]),  # between the places of the network's own grid
    ],
)
def test_fast_features_are_the_mean_of_places_centered_in_the_patch(image, stem, size, stride, expected):
    config = SETTINGS.replaced(stem=stem, extract_size=size, stride=stride, dense="fast")
    feature = _feature(config)
    features = dense.function(feature, config.data.size, config.features)(image)
    side, _ = dense.places(config.data.size, config.features)
    assert features.shape == (side**2, 512)
    inner = next(layer for layer in feature.layers if isinstance(layer, keras.Model))
    x = image[None].astype(np.float32) / 255
    if (stem, stride) == ("small", 8):  # its grid begins at pixel 4
        every, shifted = 8, x[:, 4:, 4:]
    else:
        every, shifted = 4, x
    places = np.asarray(dense.dilate(inner, every).predict_on_batch(shifted))[0]
    for row, column in ((0, 0), (1, 2), (side - 1, side - 1)):
        tops = [(stride * row + pixel - (96 - shifted.shape[1])) // every for pixel in expected]
        lefts = [(stride * column + pixel - (96 - shifted.shape[1])) // every for pixel in expected]
        mean = places[np.ix_(tops, lefts)].mean(axis=(0, 1))
        np.testing.assert_allclose(features[row * side + column], mean, rtol=1e-4, atol=1e-4 * np.abs(mean).max())


@pytest.mark.parametrize("size", [24, 32])
def test_features_of_several_stages_are_those_of_each_side_by_side(feature, image, size):
    """layer3's places are those of layer2 (24 px), or half a place further on, and interpolated (32 px)."""
    config = SETTINGS.replaced(stem="imagenet", extract_size=size, stride=8, dense="fast")
    names = ("layer2", "layer3")
    both, second, third = (
        dense.function(build.feature_model(feature, name), 96, config.features)(image)
        for name in (",".join(names), *names)
    )
    assert both.shape == (len(second), 128 + 256)
    np.testing.assert_allclose(both[:, :128], second, rtol=1e-4, atol=1e-5)
    if size == 24:
        np.testing.assert_allclose(both[:, 128:], third, rtol=1e-4, atol=1e-5)
        return
    inner = next(layer for layer in build.feature_model(feature, "layer3").layers if isinstance(layer, keras.Model))
    normalize = next(layer for layer in feature.layers if isinstance(layer, keras.layers.Normalization))
    x = normalize(image[None, 4:, 4:].astype(np.float32) / 255)  # layer2's grid begins at pixel 4
    places = np.asarray(dense.dilate(inner, 8).predict_on_batch(x))[0]
    halves = (places[:-1] + places[1:]) / 2
    halves = (halves[:, :-1] + halves[:, 1:]) / 2
    for row, column in ((0, 0), (3, 5)):
        mean = halves[row : row + 3 : 2, column : column + 3 : 2].mean(axis=(0, 1))
        np.testing.assert_allclose(both[row * 9 + column, 128:], mean, rtol=1e-3, atol=1e-4 * np.abs(mean).max())


def test_exact_features_of_several_stages_are_concatenated(feature, image):
    both, *each = (
        dense.function(build.feature_model(feature, name), 96, SETTINGS.features)(image)
        for name in ("layer2,layer4", "layer2", "layer4")
    )
    np.testing.assert_allclose(both, np.concatenate(each, axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("layer2,layer9", "--feature=layer2,layer9: resnet18 has no 'layer9'; did you mean layer"),
        ("layer2,", "resnet18 has no ''"),
        ("layer2,layer2", "a feature twice"),
    ],
)
def test_features_that_cannot_be_joined_are_refused(feature, names, message):
    with pytest.raises(InputError, match=message):
        build.feature_model(feature, names)


def test_max_pooling_is_not_dilated(feature):
    inner = next(layer for layer in feature.layers if isinstance(layer, keras.Model))
    with pytest.raises(ValueError, match="step=2 is finer than the 4 pixels"):
        dense.dilate(inner, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"extract_size": 128}, "--extract_size=128 is larger than --image_size=96"),
        ({"patch_size": 128}, "--patch_size=128 is larger than --image_size=96"),
        ({"stride": 5}, "must be a multiple of the stride; the nearest is --image_size=97"),
        ({"image_size": (96, 100), "stride": 8}, "the nearest is --image_size=96,104"),
        ({"stride": 0}, "--stride=0 must be at least 1"),
        ({"stride": 64}, "--stride=64 leaves gaps between patches of 32 px"),
        ({"patch_size": 0, "dense": "fast"}, "--stride, --dense: only for patch models"),
        ({"smoothing_sigma": 0.0}, "--smoothing_sigma=0.0 must be greater than 0"),
        ({"density": "kde"}, "a patch model needs gaussian or nearest"),
        ({"density": "nearest", "density_mode": "per_location"}, "omit --density_mode"),
        ({"patch_size": 0, "coreset": 9}, "--coreset: only for patch models"),
        ({"density_mode": "per_location", "reg_covar": 0.0}, "needs a --reg_covar greater than 0"),
        ({"dense": "fast", "backbone": "efficientnet_b0", "head_epochs": 0}, "--dense=fast is for resnet18"),
        ({"dense": "fast", "stem": "imagenet", "stride": 2}, "needs a --stride that is a multiple of 4, not 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SETTINGS.replaced(batch_size=0, **settings)


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        ("/data/mvtec_ad/bottle", "per_location"),
        ("mvtec_ad/metal_nut/", "per_location"),
        ("/data/mvtec_ad/screw", "shared"),
        ("/my/bottles", "shared"),
    ],
)
def test_aligned_categories_get_a_density_for_each_location(data, mode):
    assert SETTINGS.replaced(data=data).resolved().density.density_mode == mode


def test_batches_are_sized_by_a_devices_memory(monkeypatch):
    paper = Config.of(patch_size=64).features  # 3,249 patches of 32 px
    assert dense.batch_size(256, paper) == 465  # 7 batches of at most 512
    assert image_features.batch_size((256, 256)) == 16
    monkeypatch.setattr(devices, "memory", lambda: 2**34)  # 16 GiB
    assert dense.batch_size(256, paper) == 3249  # all at once: 4,096 would fit
    assert image_features.batch_size((256, 256)) == 64
    monkeypatch.setattr(devices, "names", lambda: ["gpu:0", "gpu:1"])
    assert image_features.batch_size((256, 256)) == 128


def test_patches_are_cut_while_those_before_are_computed(image, feature, monkeypatch):
    """The second image's first batch is there before the first image's last is asked for."""
    monkeypatch.setattr(dense, "_PIXELS", 13 * 32**2)  # 25 patches: two batches an image
    cut, computed, requested = [], [], threading.Event()
    whole_cut, outputs = dense.cut, devices.outputs

    def slowly(images, settings, together):
        for batch in whole_cut(images, settings, together):
            cut.append(len(computed))
            if len(cut) == 3:
                requested.set()
            yield batch

    def compute(network, batch):
        if len(computed) == 1:
            assert requested.wait(20)
        computed.append(len(batch))
        return outputs(network, batch)

    monkeypatch.setattr(dense, "cut", slowly)
    monkeypatch.setattr(devices, "outputs", compute)
    features = [*dense.exact(feature, (96, 96), SETTINGS.features).each(np.stack([image, image]))]
    assert len(computed) == 4
    np.testing.assert_array_equal(*features)
