"""Masks as painting and labelling programs write them, and as data sets name them."""

import numpy as np
import pytest
from conftest import write_image
from PIL import Image

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import layouts, masks, sources, unread
from cutpaste_tf.settings.data import ReadingSettings

TRUTH = np.zeros((40, 40), bool)
TRUTH[10:20, 12:22] = True
WHITE, BLACK = np.full((40, 40, 3), 255, np.uint8), np.zeros((40, 40, 3), np.uint8)
MARK = (255 * TRUTH).astype(np.uint8)


def palette():
    image = Image.fromarray(TRUTH.astype(np.uint8), "P")
    image.putpalette([68, 1, 84, 253, 231, 37] + [0] * 762)
    return image


def labels():
    values = TRUTH.astype(np.uint8)
    values[10:14] *= 3
    return Image.fromarray(values)


KINDS = {
    "grey": lambda: Image.fromarray(MARK),
    "labels": labels,
    "one bit": lambda: Image.fromarray(TRUTH),
    "16 bits": lambda: Image.fromarray(TRUTH.astype(np.uint16)),
    "color": lambda: Image.fromarray(np.dstack([BLACK[..., :2], MARK])),
    "white paint on transparent": lambda: Image.fromarray(np.dstack([WHITE, MARK])),
    "black paint on transparent": lambda: Image.fromarray(np.dstack([BLACK, MARK])),
    "grey with alpha": lambda: Image.fromarray(np.dstack([WHITE[..., 0], MARK])),
    "opaque alpha": lambda: Image.fromarray(np.dstack([MARK, MARK, MARK, WHITE[..., 0]])),
    "palette": palette,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_mark_a_defect(tmp_path, kind):
    KINDS[kind]().save(tmp_path / "mask.png")
    mask, part = masks.read([tmp_path / "mask.png"], "image", (40, 40), (40, 40), ReadingSettings())
    np.testing.assert_array_equal(mask, TRUTH)
    assert part == TRUTH.mean()


@pytest.mark.parametrize("brightest", [255, 76])
def test_of_jpeg_half_its_maximum_counts(tmp_path, brightest):
    Image.fromarray((brightest * TRUTH).astype(np.uint8)).save(tmp_path / "mask.png", format="JPEG", quality=75)
    mask, _ = masks.read([tmp_path / "mask.png"], "image", (40, 40), (40, 40), ReadingSettings())
    assert np.mean(mask != TRUTH) < 0.01
    Image.fromarray(BLACK).save(tmp_path / "empty.jpg")
    assert not masks.read([tmp_path / "empty.jpg"], "image", (40, 40), (40, 40), ReadingSettings())[0].any()


def test_inverted_masks_are_noticed_and_can_be_read(category):
    write_image(category / "ground_truth/square/000_mask.png", 255 - MARK)
    (notice,) = sources.read_test(category, 40).notices
    assert notice.startswith("The mask of test/square/000.png covers 94 % of the image")
    mask, _ = masks.read(
        [category / "ground_truth/square/000_mask.png"], "", (40, 40), (40, 40), ReadingSettings.of(invert_masks=True)
    )
    np.testing.assert_array_equal(mask, TRUTH)


@pytest.mark.parametrize("name", ["000.png", "000_mask.bmp", "000_mask.PNG", "000.TIF", "000/000.png", "000/a.bmp"])
def test_every_way_to_name_a_mask(category, name):
    (category / "ground_truth/square/000_mask.png").unlink()
    write_image(category / "ground_truth/square" / name, MARK)
    mask = sources.read_test(category, 40).masks[3]
    np.testing.assert_array_equal(mask, TRUTH)
    assert not unread.lines(category, testing=True)


def test_the_files_of_a_folder_are_one_mask(category):
    (category / "ground_truth/square/000_mask.png").unlink()
    for number, rows in enumerate((slice(0, 15), slice(15, 40))):
        part = np.zeros_like(MARK)
        part[rows] = MARK[rows]
        write_image(category / f"ground_truth/square/000/{number:03d}.png", part)
    np.testing.assert_array_equal(sources.read_test(category, 40).masks[3], TRUTH)


def test_masks_that_cannot_be_told_apart_are_refused(category):
    write_image(category / "ground_truth/square/000.png", MARK)
    with pytest.raises(
        InputError, match=r"The image square/000\.png has two masks, square/000\.png and square/000_mask"
    ):
        sources.list_test(category)
    (category / "ground_truth/square/000.png").unlink()
    write_image(category / "test/square/000.jpg", WHITE)
    with pytest.raises(InputError, match=r"square/000\.jpg and square/000\.png would share the mask square/000_mask"):
        sources.list_test(category)


def test_a_mask_without_an_image_is_named(category):
    write_image(category / "ground_truth/square/099_mask.png", MARK)
    (line,) = unread.lines(category, testing=True)
    assert "1 masks that match no image" in line
    assert "099_mask.png" in line
    (category / "ground_truth").rename(category / "elsewhere")
    assert not layouts.has_masks(category)


def test_a_mask_beside_an_image_that_exif_turns_is_refused(category):
    image = Image.open(category / "test/square/000.png")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(category / "test/square/000.png", exif=exif)
    with pytest.raises(
        InputError, match=r"square/000\.png is rotated by its EXIF data, and it is unknown whether its mask is"
    ):
        sources.read_test(category, 40)


def test_a_defect_on_a_normal_image_is_noticed(category):
    write_image(category / "ground_truth/good/000.png", MARK)
    write_image(category / "ground_truth/good/001.png", 0 * MARK)
    examples = sources.read_test(category, 40)
    assert examples.masks[:3] == [None] * 3
    assert [notice.split(",")[0] for notice in examples.notices] == ["test/good/000.png is a normal image"]
