"""Images that are not square: features, views, and the width that is left to the training images."""

import numpy as np
import pytest
from conftest import TINY, draw_category, networks_of
from PIL import Image

import cutpaste_tf
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.detection import dense
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading, sources
from cutpaste_tf.networks import build
from cutpaste_tf.pictures import page
from cutpaste_tf.progress import no_report
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config

STRIP = TINY.replaced(epochs=0, image_size=(64, 128), patch_size=32, extract_size=32, stride=8)


@pytest.mark.parametrize(("kind", "tolerance"), [("exact", 1e-6), ("fast", 1e-4)])
def test_patches_of_a_strip_are_those_of_its_squares(kind, tolerance):
    """The fast ones, where the left and right borders are far: a place of layer1 sees 43 pixels."""
    config = STRIP.replaced(dense=kind, feature="layer1", density_mode="shared", backbone="resnet18", stem="imagenet")
    rng = np.random.default_rng(0)
    strip = rng.integers(0, 256, (96, 160, 3), np.uint8)
    feature = build.feature_model(networks_of(config).feature, "layer1")
    features = dense.function(feature, (96, 160), config.features)(strip)
    rows, columns = dense.places((96, 160), config.features)
    assert (rows, columns) == (9, 17)
    assert len(features) == dense.locations((96, 160), config.features) == 153
    square = dense.function(feature, 96, config.features)(strip[:, 32:128])
    ours = features.reshape(rows, columns, -1)[:, 4:13]
    compared = slice(None) if kind == "exact" else slice(4, 5)
    difference = np.abs(ours[:, compared] - square.reshape(9, 9, -1)[:, compared]).max()
    assert difference < tolerance * np.abs(features).max()


def test_views_have_the_images_shape_and_squares_their_own_stream():
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 72, 3), np.uint8)
    settings = TINY.augmentation
    views, _ = next(iter(pipeline.stream(images, settings, batch_size=6, seed=0)))
    assert views.shape == (6, 40, 72, 3)
    np.testing.assert_array_equal(pipeline.pad(images, 0.125).shape, (3, 50, 90, 3))
    reflected = pipeline._reflected(images[0], (5, 9))
    np.testing.assert_array_equal(reflected, pipeline.pad(images, 0.125)[0])


@pytest.mark.parametrize("patches", [False, True])
def test_a_width_is_taken_from_the_images(patches, tmp_path):
    """Headers suffice; a resumed run keeps its size; what is found is at its place in the picture's own pixels."""
    category = draw_category(tmp_path / "category")
    for path in category.rglob("*.png"):  # stretched: 40 x 40 -> 100 x 40
        image = Image.open(path)
        image.resize((100, 40), Image.Resampling.NEAREST).save(path)
    lines = []
    config = (STRIP if patches else TINY.replaced(epochs=0)).replaced(data=str(category), image_size="64,auto")
    if patches:
        config = config.replaced(density_mode="shared", normalize_coverage=True)
    cutpaste_tf.train(config, tmp_path / "run", report=lines.append)
    assert lines[0] == "Images of 100 x 40 px become 160 x 64 px (--image_size=64,160)."
    cutpaste_tf.train(config, tmp_path / "run", report=lines.append)  # complete
    detector = cutpaste_tf.load(tmp_path / "run")
    assert detector.size == (64, 160)
    result = cutpaste_tf.evaluate(tmp_path / "run", report=lines.append)
    assert result["image_auroc"] > 50
    test = sources.read_test(category, detector.size)
    assert test.masks[3].shape == (64, 160)
    prediction = detector.predict(category / "test/square/000.png", heat_map=True)
    assert prediction.heat_map.shape == (40, 100)
    drawn = Image.open(tmp_path / "run/eval/heatmaps/square/000.png")
    assert drawn.width >= 4 * 160
    assert page._parts([(16, 32, 16, 32)], (64, 160)) == [[10.0, 50.0, 10.0, 50.0]]


def test_a_picture_that_is_turned_counts_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    items = sources.list_test(tmp_path)
    assert reading.sizes_of(items, Config.of(data="x").data) == [(30, 20)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (256, (256, 256)),
        ("256", (256, 256)),
        ("200, 500", (200, 500)),
        ("200,auto", (200, sizes.AUTO)),
        ([96, 64], (96, 64)),
        (0, ()),
        ("", ()),
    ],
)
def test_a_size_is_a_number_or_two(given, expected):
    assert Config.of(image_size=given).data.image_size == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": "auto,256"}, "HEIGHT,WIDTH or HEIGHT,auto"),
        ({"image_size": "256x128"}, "HEIGHT,WIDTH or HEIGHT,auto"),
        ({"image_size": 99.5}, "HEIGHT,WIDTH or HEIGHT,auto"),
        ({"image_size": (16, 64)}, "--image_size=16,64 must be at least 32"),
        ({"image_size": "64,32768"}, "at most 16384"),
        ({"image_size": (64, 128), "proxy_task": "rotation"}, "must be square, not 128 x 64"),
        ({"image_size": (48, 256), "patch_size": 64}, "--patch_size=64 is larger than --image_size=48,256"),
        ({"image_size": (256, 300), "patch_size": 64, "stride": 32}, "the nearest is --image_size=256,288"),
    ],
)
def test_a_size_that_cannot_be_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Config.of(**settings)


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "tiles"),
    [((128, 256), 64, 32, 3 * 7), ((128, 256), 128, 96, 5), ((48, 160), 64, 0, 4), ((64, 64), 64, 0, 1)],
)
def test_tiles_cover_an_image_and_every_patch_is_in_one(size, tile, overlap, tiles):
    settings = STRIP.features.replaced(tile_size=tile, tile_overlap=overlap, extract_size=32, stride=8)
    tiling = dense.Tiling.of(size, settings)
    assert len(tiling.corners) == tiles
    assert (tiling.corners + tiling.size <= size).all()
    rows, columns = dense.places(size, settings)
    across = dense.places(tiling.size, settings)[1]
    for location in range(rows * columns):
        corner = tiling.corners[tiling.tile_of[location]]
        place = np.array(divmod(tiling.place_of[location], across))
        np.testing.assert_array_equal(corner + 8 * place, 8 * np.array(divmod(location, columns)))
    for axis in (0, 1):
        apart = np.diff(np.unique(tiling.corners[:, axis]))
        assert not len(apart) or tiling.size[axis] - apart.max() >= overlap


def test_tiles_make_no_seam():
    """A patch's feature is that of the whole image where the overlap is the patch and what its places see beyond it."""
    config = STRIP.replaced(dense="fast", feature="layer1", backbone="resnet18", stem="imagenet", density_mode="shared")
    image = np.random.default_rng(0).integers(0, 256, (160, 224, 3), np.uint8)
    image[:, 150:] = 99  # flat
    feature = build.feature_model(networks_of(config).feature, "layer1")
    whole = dense.function(feature, (160, 224), config.features)(image)
    tiled = config.features.replaced(tile_size=96, tile_overlap=72)
    np.testing.assert_allclose(
        dense.function(feature, (160, 224), tiled)(image), whole, rtol=0, atol=1e-5 * np.abs(whole).max()
    )
    bare = dense.function(feature, (160, 224), config.features.replaced(tile_size=96, tile_overlap=0))(image)
    assert np.abs(bare - whole).max() > 0.01 * np.abs(whole).max()


def test_large_images_are_scored_by_tiles_at_their_own_size(tmp_path):
    """The size comes from the images; scores, threshold and export are of whole images."""
    category = draw_category(tmp_path / "category")
    for path in category.rglob("*.png"):
        picture = Image.open(path)
        picture.resize((208, 160), Image.Resampling.NEAREST).save(path)
    config = TINY.replaced(
        epochs=1, steps_per_epoch=1, data=str(category), image_size=0, patch_size=32, extract_size=32, stride=8
    )
    config = config.replaced(dense="fast", tile_size=96, tile_overlap=72, density_mode="shared", feature="layer1")
    lines = []
    cutpaste_tf.train(config, tmp_path / "tiled", report=lines.append)
    assert lines[0] == "Images of 208 x 160 px become 208 x 160 px (--image_size=160,208)."
    result = cutpaste_tf.evaluate(tmp_path / "tiled", report=no_report)
    detector = cutpaste_tf.load(tmp_path / "tiled")
    assert detector.held_out_.shape == (6, 17, 23)
    assert result["threshold"] in detector.calibration.scores
    whole = detector.configured(detector.given.replaced(tile_size=0))
    whole.fit(sources.read_train(category, (160, 208)).images)
    images = sources.read_test(category, (160, 208)).images
    expected = whole.score(images, heat_maps=True)
    actual = detector.score(images, heat_maps=True)
    np.testing.assert_allclose(actual.heat_maps, expected.heat_maps, rtol=0, atol=1e-3 * expected.heat_maps.max())
    cutpaste_tf.export(tmp_path / "tiled", tmp_path / "export", report=no_report)
    exported = cutpaste_tf.load(tmp_path / "export").score(images)
    np.testing.assert_allclose(exported.scores, actual.scores, rtol=0, atol=1e-9 * np.ptp(actual.scores))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile_size": 100, "stride": 8}, "multiple of --stride=8; the nearest is 104"),
        ({"tile_size": 96, "stride": 8, "tile_overlap": 96}, "leaves nothing of 96 px tiles"),
        ({"tile_size": 256, "patch_size": 0}, "--tile_size: only for patch models"),
        ({"image_size": "auto", "patch_size": 0}, "for patch models; give HEIGHT,auto"),
    ],
)
def test_tiles_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Config.of(**{"patch_size": 64, **settings})
