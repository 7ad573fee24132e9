"""Which images to use, and how to read them."""

import dataclasses
from typing import Any

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.base import Settings, integers, setting

# Sets whose default size is not A.1's: KIND of KIND/NAME -> side in pixels that images are resized to.
IMAGE_SIZES: dict[str, int] = {"cifar10": 32}
GOOD = "good"  # what MVTec AD calls the folders of normal images


def default_image_size(data: str) -> int:
    """Default side in pixels that images are resized to: 256 (A.1), or the set's own default."""
    return IMAGE_SIZES.get(data.partition("/")[0], 256)


def _places(value: Any) -> tuple[str, ...]:
    """Folders, which a flag separates by commas."""
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else tuple(map(str, value))


@dataclasses.dataclass(frozen=True)
class ReadingSettings(Settings):
    """How to interpret folders and files."""

    new_at_evaluation = True

    normal_name: str = setting(GOOD, "Name of the folders that hold normal images.")
    max_megapixels: float = setting(200.0, "Refuse images with more megapixels than this.", above=0)
    invert_masks: bool = setting(False, "Masks are zero on the defect.")
    region: str = setting(
        "",
        "Mask of the image region that counts, nonzero inside; or a folder of masks, named like their images. "
        "Nothing outside is fitted or scored.",
    )

    def check(self) -> None:
        """Checks that the normal folder's name is a valid name."""
        name = self.normal_name
        if not name or "/" in name or name in ("train", "test", "ground_truth"):
            raise InputError(f"--normal_name={name} must be the name of a folder, such as good or ok.")


@dataclasses.dataclass(frozen=True)
class DataSettings(Settings):
    """The training and test images."""

    data: str = setting(
        "",
        "Category folder in MVTec layout (train/good, test/*, ground_truth), folder with good/ beside DEFECT/, folder "
        "of normal images, demo/NAME, mvtec_ad/CATEGORY or cifar10/CLASS.",
    )
    add_normal: tuple[str, ...] = setting(
        (),
        "Folders of further normal images, separated by commas; the density is fitted to them too, the network is not "
        "trained on them. With --config=RUN: RUN's network, and the folders are added to RUN's own.",
        source="ours",
        convert=_places,
    )
    test_data: str = setting("", "Test images if --data has none: like --data, or good/ beside DEFECT/.")
    image_size: tuple[int, ...] = setting(
        (),
        "Size in pixels that images are resized to: a number for a square; HEIGHT,WIDTH; HEIGHT,auto for the median "
        "aspect ratio of the training images; or auto for their own size. By default 256, 32 for cifar10, and auto "
        "with --tile_size.",
        source="A.1; Section 5.4",
        convert=sizes.parsed,
    )
    test_split: float = setting(
        0.2, "Fraction of good/ to hold out for testing if --data is good/ beside DEFECT/.", at_least=0
    )
    split_seed: int = setting(0, "Seed for choosing the images to hold out.", at_least=0)
    # 12-bit cameras store 0..4095 in 16-bit files.
    white: int = setting(
        0,
        "Pixel value that becomes 255, in files with more than 8 bits. 0: the smallest of 255, 1023, 4095, 16383 and "
        "65535 that holds the brightest training pixel.",
    )
    background: tuple[int, ...] = setting(
        (0, 0, 0),
        "Color behind transparent pixels, as R,G,B in 0..255.",
        convert=integers("background", "255,255,255"),
    )
    reading: ReadingSettings = ReadingSettings()

    def check(self) -> None:
        """Checks rules other than ranges."""
        numbers = [number for number in self.image_size if number != sizes.AUTO]
        if numbers and not 32 <= min(numbers) <= max(numbers) <= sizes.LARGEST:
            raise InputError(
                f"--image_size={sizes.as_flag(self.image_size)} must be at least 32 and at most {sizes.LARGEST}."
            )
        if not self.test_split < 1:
            raise InputError(
                f"--test_split={self.test_split} must be in [0, 1): it is a fraction of the normal images."
            )
        if not 0 <= self.white <= 65535:
            raise InputError(f"--white={self.white} must be 1 to 65535, or 0 to take it from the images.")
        if len(self.background) != 3 or not all(0 <= value <= 255 for value in self.background):
            text = ",".join(map(str, self.background))
            raise InputError(f"--background={text} must be three numbers in 0..255, such as 255,255,255.")

    @property
    def size(self) -> sizes.Size:
        """(height, width) that images are resized to; if the width is still `auto`, it equals the height.

        Raises:
            ValueError: the setting is open.
        """
        if not self.image_size:
            raise ValueError("image_size is left open: take the data of Config.resolved()")
        height, width = self.image_size
        if height == sizes.AUTO:
            raise ValueError("image_size is left to the images, see preparation.with_size")
        return height, height if width == sizes.AUTO else width
