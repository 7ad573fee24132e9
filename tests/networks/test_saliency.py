"""LayerCAM against its definition, the salient cluster, and CutSwap on marked images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import stream_of

from cutpaste_tf.augmentation import patches
from cutpaste_tf.augmentation.proxy_tasks import SALIENCY_LEVELS
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import build, resnet, saliency, weights
from cutpaste_tf.settings.config import Config


@pytest.fixture(scope="module")
def arrays():
    """A ResNet-18 with classifier that was never trained."""
    rng = np.random.default_rng(0)
    values = {}
    for name, shape in weights.resnet18_shapes("imagenet").items():
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) == 4 else 0.1
        values[name] = rng.normal(0, scale, shape).astype(np.float32)
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight")):
            values[name] = np.ones(shape, np.float32)
    values["fc.weight"] = rng.normal(0, 0.1, (1000, 512)).astype(np.float32)
    values["fc.bias"] = np.zeros(1000, np.float32)
    return values


def pictures(count=3, side=64):
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), np.uint8)


def test_layer_cam_follows_its_definition(arrays):
    """At the last stage the gradient has a closed form: the class's weights over the number of places."""
    maps = saliency.layer_cam(arrays)(pictures())
    assert [heat.shape for heat in maps] == [(3, 16, 16), (3, 8, 8), (3, 4, 4), (3, 2, 2)]
    assert len(maps) == SALIENCY_LEVELS
    backbone = resnet.resnet18("imagenet")
    resnet.set_arrays(backbone, arrays)
    x = (pictures() / 255 - build.IMAGENET_MEAN) / build.IMAGENET_STD
    activation = keras.ops.convert_to_numpy(backbone(x.astype(np.float32), training=False))
    chosen = np.argmax(activation.mean((1, 2)) @ arrays["fc.weight"].T, axis=1)
    gradient = arrays["fc.weight"][chosen][:, None, None, :] / 4
    expected = np.maximum((np.maximum(gradient, 0) * activation).sum(-1), 0)
    np.testing.assert_allclose(maps[-1], expected, rtol=1e-3, atol=1e-5)


def test_the_gradient_is_that_of_the_function():
    x = keras.ops.convert_to_tensor([1.0, 2.0, -3.0])
    gradient = saliency.gradient(lambda value: keras.ops.sum(value**3), x)
    np.testing.assert_allclose(gradient, [3.0, 12.0, 27.0], rtol=1e-5)


def test_the_most_salient_cluster_holds_the_highest_values():
    values = np.zeros((8, 8), np.float32)
    values[:, 4:] = 0.2
    values[:2] = np.linspace(1, 2, 16).reshape(2, 8)
    values[2:4, 1:3] = [[9.0, 9.1], [8.9, 9.0]]
    marked = saliency.most_salient(values)
    np.testing.assert_array_equal(marked, values > 8)
    assert saliency.most_salient(np.zeros((4, 4), np.float32)).all()


def test_marked_images_keep_their_pixels_and_gain_a_bit_for_each_level(arrays):
    marked = saliency.mark(pictures(), arrays, batch_size=2)
    np.testing.assert_array_equal(marked[..., :3], pictures())
    maps = saliency.layer_cam(arrays)(pictures())
    for level, values in enumerate(maps):
        expected = saliency.most_salient(values[1]).repeat(64 // values.shape[1], 0).repeat(64 // values.shape[1], 1)
        np.testing.assert_array_equal(marked[1, :, :, 3] >> level & 1, expected)


def test_boxes_lie_around_salient_pixels_apart_and_inside():
    salient = np.zeros((64, 64), bool)
    salient[10:14, 2:62] = True
    for index in range(200):
        patch = patches.sample_swap(
            tf.constant([index, 0]), tf.constant(salient), Config.of(max_patch_area=0.03).augmentation
        )
        height, width, *corners = (int(value) for value in patch)
        for top, left in (corners[:2], corners[2:]):
            assert 0 <= top <= 64 - height
            assert 0 <= left <= 64 - width
            assert top == 0 or 10 <= top + height // 2 < 14
            assert left in (0, 64 - width) or 2 <= left + width // 2 < 62
        assert abs(corners[0] - corners[2]) >= height or abs(corners[1] - corners[3]) >= width


def test_without_salient_pixels_every_pixel_counts():
    tops = [
        int(patches.sample_swap(tf.constant([i, 0]), tf.zeros((64, 64), tf.bool), Config().augmentation).first_top)
        for i in range(50)
    ]
    assert np.ptp(tops) > 20


def test_swapping_moves_exact_pixels():
    image = np.arange(12 * 10 * 3, dtype=np.float32).reshape(12, 10, 3) / 360
    patch = patches.SwapPatches(*[tf.constant(v) for v in (4, 3, 1, 2, 7, 5)])
    expected = image.copy()
    expected[1:5, 2:5], expected[7:11, 5:8] = image[7:11, 5:8], image[1:5, 2:5]
    np.testing.assert_array_equal(patches.paste_swap(tf.constant(image), patch), expected)


@pytest.mark.parametrize("level", range(SALIENCY_LEVELS))
def test_the_marks_follow_the_translation(level):
    """Only a bright square is marked, on one level; views that draw this level swap boxes around its pixels."""
    noise = np.random.default_rng(2).integers(0, 100, (64, 64, 3), np.uint8)
    image = np.zeros((1, 64, 64, 4), np.uint8)
    image[0, :, :, :3] = noise
    image[0, 24:40, 24:40, :3] += 150
    image[0, :, :, 3] = 15 - (1 << level)  # the other levels: everywhere
    image[0, 24:40, 24:40, 3] = 1 << level
    config = Config.of(
        proxy_task="cutswap", weights="x", image_size=64, base_jitter=0, batch_size=64, max_patch_area=0.03,
        share_base_augmentation=True, translate=0.2,
    )  # fmt: skip
    near, count = 0, 0
    for views, labels in stream_of(image, config).take(4):
        np.testing.assert_array_equal(labels, [0, 1] * 32)
        for normal, swapped in views.numpy().reshape(32, 2, 64, 64, 3):
            changed = np.argwhere(np.any(normal != swapped, axis=-1))
            assert len(changed) > 20  # something was swapped
            square = np.argwhere(normal.min(axis=-1) > 0.5)
            # A box is at most 20 pixels long, so it reaches 10 beyond the pixel it is drawn around.
            reach = np.all((changed >= square.min(0) - 10) & (changed <= square.max(0) + 10))
            near, count = near + reach, count + 1
    assert 0.15 < near / count < 0.4  # one of the four levels


def test_cutswap_takes_what_is_named_or_else_imagenet(tmp_path, arrays):
    assert Config.of(proxy_task="cutswap").saliency_weights == "imagenet"
    assert Config.of(proxy_task="cutswap", weights="own.npz").saliency_weights == "own.npz"
    config = Config.of(proxy_task="cutswap", backbone="efficientnet_b0", weights="b0.h5")
    assert config.saliency_weights == "imagenet"  # an EfficientNet has no four stages
    np.savez(tmp_path / "headless.npz", **{k: v for k, v in arrays.items() if not k.startswith("fc.")})
    config = config.replaced(saliency_weights=str(tmp_path / "headless.npz"))
    with pytest.raises(InputError, match=r"--saliency_weights=.* has no array fc\.weight"):
        weights.read_saliency_network(config.saliency_weights)
