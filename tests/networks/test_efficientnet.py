"""EfficientNet: exact sizes, one network whichever way its weights come, files that do not fit, features."""

import json

import h5py
import keras
import numpy as np
import pytest
from conftest import TINY, networks_of
from keras.src.legacy.saving import legacy_h5_format

import cutpaste_tf
from cutpaste_tf.detection import image_features, loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.networks import build, efficientnet
from cutpaste_tf.networks.backbones import BACKBONES
from cutpaste_tf.settings.config import Config


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


# Trainable parameters without top as Keras lists them, and all of them but the 7 numbers of its Normalization.
@pytest.mark.parametrize(
    ("name", "trainable", "total", "channels", "level7_channels"),
    [("efficientnet_b0", 4_007_548, 4_049_564, 1280, 192), ("efficientnet_b4", 17_548_616, 17_673_816, 1792, 272)],
)
def test_sizes_are_exact(name, trainable, total, channels, level7_channels):
    backbone = efficientnet.efficientnet(name)
    assert count(backbone.trainable_weights) == trainable
    assert count(backbone.weights) == total
    assert backbone.output.shape == (None, None, None, channels)
    level7 = efficientnet.level7(backbone)
    assert level7 == {"efficientnet_b0": "block6d_add", "efficientnet_b4": "block6h_add"}[name]
    assert backbone.get_layer(level7).output.shape[-1] == level7_channels


def application(*, include_top=False):
    """A B0 of keras.applications with random weights, batch norm's statistics included."""
    model = keras.applications.EfficientNetB0(weights=None, include_top=include_top)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            # As in the published weights: with the standard deviation where the variance should be.
            layer.set_weights([np.float32(build.IMAGENET_MEAN), np.float32(build.IMAGENET_STD), np.int64(0)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape[0]  # a small variance keeps the signal alive through all layers
            ranges = ((0.8, 1.2), (-0.1, 0.1), (-0.1, 0.1), (0.4, 0.9))
            layer.set_weights([rng.uniform(low, high, width) for low, high in ranges])
    return model


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """One set of weights in four files: with and without top, as Keras 3 and as earlier ones write them."""
    folder = tmp_path_factory.mktemp("weights")
    models = {"notop": application(), "top": application(include_top=True)}
    for layer in models["notop"].layers:
        if layer.weights and not isinstance(layer, keras.layers.Normalization):
            models["top"].get_layer(layer.name).set_weights(layer.get_weights())
    for name, model in models.items():
        model.save_weights(folder / f"{name}.weights.h5")
        with h5py.File(folder / f"{name}.h5", "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return folder


def features(config, image):
    nets = networks_of(config)
    BACKBONES[config.network.backbone].set_weights(nets.backbone, config.network.weights, config.network.stem)
    return keras.ops.convert_to_numpy(nets.feature(image))


DOWNLOADED = Config.of(backbone="efficientnet_b0", weights="imagenet", image_size=64)


@pytest.fixture(scope="module")
def downloaded(source):
    """An image, our features of it with the downloaded weights, keras.applications' own, and those of its trap."""
    image = np.random.default_rng(1).uniform(0, 1, (2, 64, 64, 3)).astype(np.float32)
    path = str(source / "notop.weights.h5")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: path)
        patched.setattr(efficientnet, "fetch", lambda remote, flag: path)
        ours = features(DOWNLOADED, image)
        theirs = keras.applications.EfficientNetB0(weights="imagenet", include_top=False, input_shape=(None, None, 3))
    trapped = keras.applications.EfficientNetB0(weights=path, include_top=False, input_shape=(None, None, 3))
    return image, ours, *(np.mean(model(image * 255), axis=(1, 2)) for model in (theirs, trapped))


def test_the_downloaded_weights_give_keras_own_features(downloaded):
    """The trap: keras.applications itself builds another network for weights="imagenet" than for a file."""
    _, ours, theirs, trapped = downloaded
    scale = np.abs(ours).max()
    np.testing.assert_allclose(theirs / scale, ours / scale, atol=1e-3)
    assert np.abs(trapped - ours).max() > 0.01 * scale


@pytest.mark.parametrize("name", ["notop.weights.h5", "top.weights.h5", "notop.h5", "top.h5"])
def test_files_and_download_give_one_network(source, downloaded, name):
    image, ours, *_ = downloaded
    from_file, scale = features(DOWNLOADED.replaced(weights=str(source / name)), image), np.abs(ours).max()
    np.testing.assert_allclose(from_file / scale, ours / scale, atol=1e-5)


def test_a_file_of_another_network_is_refused_by_its_first_layer(source, tmp_path, category):
    config = Config.of(backbone="efficientnet_b2", weights=str(source / "notop.h5"), data=str(category), epochs=0)
    # B2's first block is wider than B0's second; what comes before has the same shapes.
    with pytest.raises(InputError, match=r"is not from efficientnet_b2: the layer block1b_dwconv needs"):
        cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    assert not (tmp_path / "run").exists()
    backbone = efficientnet.efficientnet("efficientnet_b0")
    (tmp_path / "text.h5").write_text("hello")
    content = (source / "notop.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    for name in ("text.h5", "cut.h5"):
        with pytest.raises(InputError, match=f"{name} is not a Keras weights file, or it is damaged"):
            efficientnet.set_weights(backbone, str(tmp_path / name))
    with pytest.raises(InputError, match="does not exist; give a file, or `imagenet`"):
        efficientnet.set_weights(backbone, str(tmp_path / "none.h5"))
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(tmp_path / "dense.weights.h5")
    with pytest.raises(InputError, match="the layer stem_conv needs"):
        efficientnet.set_weights(backbone, str(tmp_path / "dense.weights.h5"))


def test_every_size_is_known():
    for size in range(8):
        config = Config.of(backbone=f"efficientnet_b{size}").resolved()
        assert (config.schedule.batch_size, config.schedule.head_epochs, config.schedule.epochs) == (24, 10, 64)
        assert (config.schedule.head_learning_rate, config.schedule.learning_rate) == (0.03, 0.0001)
        assert config.network.freeze_batch_norm == "yes"
        assert config.schedule.total_steps == 74 * 256
    assert Config.of(backbone="efficientnet_b4", proxy_task="rotation").resolved().schedule.batch_size == 24
    assert sum(name.startswith("efficientnet") for name in BACKBONES) == 8


def test_no_drop_connect_and_frozen_statistics_in_training():
    nets = networks_of(Config.of(backbone="efficientnet_b0", image_size=64))
    image = np.random.default_rng(0).uniform(0, 1, (4, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(nets.feature(image, training=True), nets.feature(image, training=False), atol=1e-6)
    thawed = networks_of(Config.of(backbone="efficientnet_b0", image_size=64, freeze_batch_norm="no"))
    assert np.abs(thawed.feature(image, training=True) - thawed.feature(image, training=False)).max() > 1e-3


def test_drop_connect_is_for_training_in_both_phases():
    nets = networks_of(Config.of(backbone="efficientnet_b0", image_size=64, drop_connect=True))
    image = np.random.default_rng(0).uniform(0, 1, (4, 64, 64, 3)).astype(np.float32)
    plain = networks_of(Config.of(backbone="efficientnet_b0", image_size=64))
    plain.backbone.set_weights(nets.backbone.get_weights())
    expected = keras.ops.convert_to_numpy(plain.feature(image))
    scale = np.abs(expected).max()
    for head_only in (True, False):
        build.set_trainable(nets.backbone, head_only=head_only, freezes_batch_norm=True)
        np.testing.assert_allclose(nets.feature(image, training=False), expected, atol=1e-4 * scale)
        twice = [keras.ops.convert_to_numpy(nets.feature(image, training=True)) for _ in range(2)]
        assert min(np.abs(twice[0] - other).max() for other in (twice[1], expected)) > 0.01 * scale
    with pytest.raises(InputError, match=r"--drop_connect: resnet18 has none; it is only for EfficientNet"):
        Config.of(drop_connect=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "channels", "level7_channels"),
    [("efficientnet_b0", 1280, 192), ("efficientnet_b4", 1792, 272)],
)
def test_trains_a_step_in_each_phase_saves_and_loads(category, tmp_path, backbone, channels, level7_channels):
    config = TINY.replaced(
        data=str(category), backbone=backbone, head_epochs=1, epochs=1, steps_per_epoch=1, batch_size=3
    )
    cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    loaded = loading.load(tmp_path / "run/detector")
    images = sources.read_test(category, 32).images
    assert loaded.feature.output.shape == (None, channels)
    assert np.all(np.isfinite(loaded.score(images).scores))
    assert image_features.embed(loaded.network.feature("level7"), images).shape == (6, level7_channels)


def test_level_7_is_the_average_of_its_layer():
    config = Config.of(backbone="efficientnet_b0", image_size=64)
    nets = networks_of(config)
    image = np.random.default_rng(0).uniform(0, 1, (2, 64, 64, 3)).astype(np.float32)
    inner = keras.Model(nets.backbone.input, nets.backbone.get_layer("block6d_add").output)
    feature = build.feature_model(nets.feature, "level7")(image)
    assert feature.shape == (2, 192)
    np.testing.assert_allclose(feature, np.mean(inner(image), axis=(1, 2)), rtol=1e-4, atol=1e-5)
    by_name = build.feature_model(nets.feature, "block6d_add")(image)
    np.testing.assert_array_equal(feature, by_name)
    with pytest.raises(InputError, match=r"layer9: efficientnet_b0 has no 'layer9'.* It has pool, level7, and"):
        build.feature_model(nets.feature, "layer9")


@pytest.mark.slow
@pytest.mark.parametrize("category_name", ["bottle", "toothbrush"])
def test_imagenet_weights_reach_the_reference_values(reference, tmp_path, category_name):
    expected = {"bottle": (99.8, 99.9), "toothbrush": (94.7, 97.8)}[category_name]
    root = reference / "data/mvtec_ad" / category_name
    path = reference / "weights/efficientnet_b0_imagenet_notop.weights.h5"
    config = Config.of(data=str(root), backbone="efficientnet_b0", weights=str(path), epochs=0)
    cutpaste_tf.train(config, tmp_path / "run", checkpoint_minutes=5)
    for feature, value in zip(("pool", "level7"), expected, strict=True):
        settings = {} if feature == "pool" else {"feature": feature}
        cutpaste_tf.evaluate(tmp_path / "run", root, settings=settings)
        folder = tmp_path / "run" / ("eval" if feature == "pool" else "eval_feature=level7")
        result = json.loads((folder / "metrics.json").read_text())
        assert result["image_auroc"] == pytest.approx(value, abs=0.5)
