"""Folders and files that cannot be read are named."""

import shutil
import struct
import zlib

import numpy as np
import pytest
from conftest import read_image, write_image

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources


def break_no_folder(root):
    shutil.rmtree(root)


def break_no_good(root):
    shutil.rmtree(root / "train")


def break_parent(root):
    shutil.move(root / "train", root / "bottle/train")
    shutil.rmtree(root / "test")
    shutil.rmtree(root / "ground_truth")


def break_one_image(root):
    for path in sorted((root / "train/good").iterdir())[1:]:
        path.unlink()


def break_empty(root):
    for path in (root / "train/good").iterdir():
        path.unlink()


def break_truncated(root):
    path = root / "train/good/003.png"
    path.write_bytes(path.read_bytes()[:200])


def break_not_an_image(root):
    (root / "train/good/003.png").write_text("hello")


def break_other_file(root):
    (root / "train/good/clip.mp4").write_text("hello")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_no_folder, r"category is not a folder"),
        (break_no_good, r"has no folder train/good"),
        (break_parent, r"category holds categories: try --data=.*bottle"),
        (break_one_image, r"holds 1 image \(\.png, .*\); fitting a density needs at least 2"),
        (break_empty, r"holds 0 images \(\.png, .*\); fitting a density needs at least 2"),
        (break_truncated, r"003\.png cannot be read as an image"),
        (break_not_an_image, r"003\.png cannot be read as an image"),
        (break_other_file, r"clip\.mp4 is not an image .*move it"),
    ],
)
def test_bad_training_folders(category, damage, message):
    damage(category)
    with pytest.raises(InputError, match=message):
        sources.read_train(category, 32)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_refused(tmp_path, dtype):
    with pytest.raises(InputError, match=r"x\.tif has 32-bit pixels"):
        read_image(write_image(tmp_path / "x.tif", np.ones((5, 5), dtype)), 32)


def test_16_bit_color_is_stated(tmp_path):
    header = b"\x89PNG\r\n\x1a\n"

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">3H", 25700, 51400, 0) * 8
    (tmp_path / "deep.png").write_bytes(
        header
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row * 8))
        + chunk(b"IEND", b"")
    )
    image, kind = read_image(tmp_path / "deep.png", 32)
    assert kind == "16-bit RGB, white 65535"
    np.testing.assert_array_equal(image[0, 0], [100, 200, 0])


def test_bad_test_folders(category, tmp_path):
    shutil.copy(category / "test/good/000.png", category / "test/loose.png")
    with pytest.raises(InputError, match=r"loose\.png is next to the folders"):
        sources.read_test(category, 32)
    (category / "test/loose.png").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no test images"):
        sources.read_test(tmp_path / "empty", 32)
    with pytest.raises(InputError, match="is not a folder"):
        sources.read_test(tmp_path / "missing", 32)
    with pytest.raises(InputError, match=r"holds categories: try --data=.*category"):
        sources.read_test(tmp_path, 32)
    shutil.rmtree(category / "test/good")
    shutil.rmtree(category / "test/square")
    with pytest.raises(InputError, match="hold no test images"):
        sources.read_test(category, 32)
    (category / "test").rmdir()
    with pytest.raises(InputError, match="has no folder test"):
        sources.read_test(category, 32)
