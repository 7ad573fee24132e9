"""Whether parts lie in the same place."""

import numpy as np
import pytest

from cutpaste_tf.images import alignment


def _parts(corners, size=(96, 128)):
    """Noisy images of a bright, striped part at each corner; their brightness and contrast vary."""
    rng = np.random.default_rng(0)
    images = np.empty((len(corners), *size, 3), np.uint8)
    for image, (top, left) in zip(images, corners, strict=True):
        picture = rng.normal(40, 2, size)
        picture[top : top + 40, left : left + 60] += np.tile([0, 60], 30)
        image[:] = np.clip(picture * rng.uniform(0.5, 1.5), 0, 255)[..., None]
    return images


def test_parts_in_one_place_are_aligned_and_parts_in_many_are_not():
    rng = np.random.default_rng(0)
    fixed = alignment.explained_by_location(_parts([(20, 30)] * 30))
    shifted = alignment.explained_by_location(_parts(rng.integers(0, (57, 69), (30, 2))))
    noise = alignment.explained_by_location(rng.integers(0, 256, (30, 64, 64, 3), np.uint8))
    assert fixed > 0.9
    assert 0.05 < shifted < 0.5
    assert noise < 0.05
    assert alignment.explained_by_location(iter(_parts([(20, 30)] * 30))) == fixed  # large images are not all in memory


@pytest.mark.parametrize("side", [16, 33, 500])
def test_images_of_any_size_are_compared(side):
    images = np.zeros((4, side, 2 * side, 3), np.uint8)
    images[:, side // 2 :] = 200
    assert alignment.explained_by_location(images) == pytest.approx(1)
    assert alignment.explained_by_location(np.zeros_like(images)) == 0  # nothing varies
