"""Reading folders: what is handled, what is refused, and with which words."""

import errno
import shutil

import numpy as np
import pytest
from conftest import read_image, write_image
from PIL import Image

from cutpaste_tf import arrays, runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading, sources
from cutpaste_tf.images.resizing import resize


def test_reads_mvtec_layout(category):
    train, test = sources.read_train(category, 32), sources.read_test(category, 32)
    assert train.images.shape == (6, 32, 32, 3)
    assert train.images.dtype == np.uint8
    assert train.paths[0] == "train/good/000.png"
    assert set(train.labels) == {0}
    assert test.defects == ["good"] * 3 + ["square"] * 3
    np.testing.assert_array_equal(test.labels, [0, 0, 0, 1, 1, 1])
    assert test.masks[:3] == [None] * 3
    for mask in test.masks[3:]:
        rows, columns = np.nonzero(mask)
        assert (mask.dtype, mask.shape) == (bool, (32, 32))
        # 10..20 and 12..22 of 40 pixels, at 32.
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 15, 10, 17)
    assert test.note == "6 images (6 8-bit RGB), resized to 32 x 32"


def test_a_plain_folder_is_unlabelled(tmp_path):
    write_image(tmp_path / "a/B.PNG", np.zeros((9, 9), np.uint8))
    write_image(tmp_path / ".hidden/c.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "Thumbs.db").touch()
    examples = sources.read_test(tmp_path, 32)
    assert (examples.paths, examples.defects, list(examples.labels)) == (["a/B.PNG"], [""], [reading.UNKNOWN])


@pytest.mark.parametrize(
    ("pixels", "kind", "expected"),
    [
        (np.full((5, 8), 90, np.uint8), "8-bit gray", (90, 90, 90)),
        (np.full((5, 8), 51400, np.uint16), "16-bit gray, white 65535", (200, 200, 200)),
        (np.full((5, 8, 3), (1, 2, 3), np.uint8), "8-bit RGB", (1, 2, 3)),
        (np.full((5, 8, 4), (1, 2, 3, 0), np.uint8), "8-bit RGB with transparency, on the background 0,0,0", (0, 0, 0)),
        (np.full((5, 8, 2), (77, 9), np.uint8), "8-bit gray with transparency, on the background 0,0,0", (3, 3, 3)),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, pixels, kind, expected):
    image, read_kind = read_image(write_image(tmp_path / "image.png", pixels), 32)
    assert read_kind == kind
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.reshape(-1, 3), np.tile(expected, (32 * 32, 1)))


@pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.bmp", "x.tif", "x.TIFF"])
def test_reads_other_formats(tmp_path, name):
    image, _ = read_image(write_image(tmp_path / name, np.full((40, 40, 3), 120, np.uint8)), 32)
    np.testing.assert_allclose(image, 120, atol=2)


def test_resizing_is_antialiased(tmp_path):
    """Stripes finer than the new pixels become grey; without antialiasing they would stay stripes."""
    stripes = np.tile(np.array([0, 255], np.uint8), (256, 128))
    image, _ = read_image(write_image(tmp_path / "stripes.png", stripes), 32)
    assert np.all(np.abs(image[:, 2:-2].astype(int) - 127) < 12)


def test_the_width_is_resized_first_whatever_pillow_s_version():
    """By hand: halving averages two pixels with the kernel's tails, rounded to whole levels after each pass."""
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53), np.uint8)

    def halve(rows, size):  # along the last axis: weights of the antialiased triangle, fixed-point as Pillow's
        scale = rows.shape[1] / size
        result = np.empty((rows.shape[0], size))
        for place in range(size):
            center = (place + 0.5) * scale
            first, last = max(0, int(center - scale + 0.5)), min(rows.shape[1], int(center + scale + 0.5))
            weights = np.maximum(0, 1 - np.abs((np.arange(first, last) - center + 0.5) / scale))
            weights = np.trunc(weights / weights.sum() * 2**22 + 0.5)
            result[:, place] = np.floor((rows[:, first:last] @ weights + 2**21) / 2**22)
        return np.clip(result, 0, 255)

    expected = halve(halve(pixels, 20).T, 16).T
    actual = np.asarray(resize(Image.fromarray(pixels), 20, 16))
    np.testing.assert_array_equal(actual, expected)


def test_exif_rotation_is_applied(tmp_path):
    image = Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 40, axis=1).repeat(20, axis=0))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by a quarter clockwise to look right
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels, _ = read_image(tmp_path / "turned.jpg", 32)
    assert pixels[16, 2, 0] > 200
    assert pixels[16, 29, 0] < 50


def test_a_plain_folder_of_normal_images_trains(tmp_path):
    for name in ("a/1.png", "a/b/2.JPG", "3.tiff"):
        write_image(tmp_path / "parts" / name, np.zeros((9, 9), np.uint8))
    examples = sources.read_train(tmp_path / "parts", 32)
    assert (examples.paths, set(examples.labels)) == (["3.tiff", "a/1.png", "a/b/2.JPG"], {0})


def test_a_test_folder_of_its_own_is_labelled_by_its_folders(category, tmp_path):
    shutil.copytree(category / "test", tmp_path / "mine/test_images")
    shutil.copytree(category / "ground_truth", tmp_path / "mine/ground_truth")
    examples = sources.read_test(tmp_path / "mine/test_images", 32)
    assert examples.paths[0] == "good/000.png"
    np.testing.assert_array_equal(examples.labels, [0, 0, 0, 1, 1, 1])
    assert sum(mask is not None for mask in examples.masks) == 3


def test_a_thin_defect_does_not_vanish_from_its_mask(category):
    mask = np.zeros((40, 40), np.uint8)
    mask[4, 8:24] = 255  # nearest pixels of a quarter of the size are those of rows 2, 6, 10, ...
    write_image(category / "ground_truth/square/000_mask.png", mask)
    expected = np.zeros((10, 10), bool)
    expected[1, 2:6] = True
    np.testing.assert_array_equal(sources.read_test(category, 10).masks[3], expected)


def test_any_value_of_a_mask_but_zero_is_the_defect(category):
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20] = 1, 128
    write_image(category / "ground_truth/square/000_mask.png", mask)
    np.testing.assert_array_equal(sources.read_test(category, 40).masks[3], mask > 0)
    write_image(category / "ground_truth/square/000_mask.png", mask.astype(np.uint16))
    np.testing.assert_array_equal(sources.read_test(category, 40).masks[3], mask > 0)


def test_a_mask_of_another_size_is_named(category):
    write_image(category / "ground_truth/square/001_mask.png", np.zeros((40, 30), np.uint8))
    with pytest.raises(InputError, match=r"001_mask\.png has 30 x 40 pixels, but its image .*001\.png has 40 x 40"):
        sources.read_test(category, 32)


def test_large_sets_are_kept_in_a_file(category, monkeypatch, tmp_path):
    small = sources.read_train(category, 32)
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 6 * 32 * 32 * 3 - 1)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    large = sources.read_train(category, 32)
    assert isinstance(large.images, np.memmap)
    assert not isinstance(small.images, np.memmap)
    assert large.hashes == small.hashes
    assert not [path for path in tmp_path.iterdir() if path.is_file()]  # nameless


def test_a_full_disk_is_told(category, monkeypatch, tmp_path):
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(InputError, match=r"no room for 0\.0 GiB of working data \(No space left on device\); set TMP"):
        sources.read_train(category, 32)


def test_mixed_sizes_are_resized_alike(category):
    write_image(category / "train/good/100.png", np.zeros((100, 30, 3), np.uint8))
    assert sources.read_train(category, 48).images.shape == (7, 48, 48, 3)


def test_what_is_remembered_notices_a_changed_pixel(category):
    before = runs.TrainingData.of(sources.read_train(category, 32))
    assert runs.TrainingData.of(sources.read_train(category, 32)) == before
    shutil.copy(category / "train/good/001.png", category / "train/good/000.png")
    assert runs.TrainingData.of(sources.read_train(category, 32)).images != before.images
