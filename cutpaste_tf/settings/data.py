"""Which images to use, and how to read them."""

import dataclasses

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.base import Settings, integers, setting

# Sets whose images are resized to another side than A.1's by default: KIND of KIND/NAME -> pixels.
IMAGE_SIZES: dict[str, int] = {"cifar10": 32}
GOOD = "good"  # what MVTec AD calls the folders of normal images


def default_image_size(data: str) -> int:
    """Default side in pixels that images are resized to: 256 (A.1), or that of the set."""
    return IMAGE_SIZES.get(data.partition("/")[0], 256)


@dataclasses.dataclass(frozen=True)
class ReadingSettings(Settings):
    """How folders and files are interpreted."""

    new_at_evaluation = True

    normal_name: str = setting(GOOD, "Name of the folders that hold normal images.")
    max_megapixels: float = setting(200.0, "Pictures with more million pixels are refused.", above=0)
    invert_masks: bool = setting(False, "Masks are zero on the defect.")
    region: str = setting(
        "",
        "Mask of the part of the images that counts, nonzero inside; or a folder of masks, named like their images. "
        "What lies outside is neither fitted to nor scored.",
    )

    def check(self) -> None:
        """Checks that the normal folder's name is a valid name."""
        name = self.normal_name
        if not name or "/" in name or name in ("train", "test", "ground_truth"):
            raise InputError(f"--normal_name={name} must be the name of a folder, as good or ok.")


@dataclasses.dataclass(frozen=True)
class DataSettings(Settings):
    """The training and test images."""

    data: str = setting(
        "",
        "Category folder in MVTec layout (train/good, test/*, ground_truth), folder with good/ beside DEFECT/, folder "
        "of normal images, demo/NAME, mvtec_ad/CATEGORY or cifar10/CLASS.",
    )
    test_data: str = setting("", "Test images where --data has none: like --data, or good/ beside DEFECT/.")
    image_size: tuple[int, ...] = setting(
        (),
        "Size in pixels that images are resized to: a number for a square, HEIGHT,WIDTH, HEIGHT,auto for the median "
        "aspect of the training images, or auto for their own size; by default 256, for cifar10 32, and auto with "
        "--tile_size.",
        source="A.1; Section 5.4",
        convert=sizes.parsed,
    )
    test_split: float = setting(
        0.2, "Part of good/ that is held out for testing, where --data is good/ beside DEFECT/.", at_least=0
    )
    split_seed: int = setting(0, "Seed of the part that is held out.", at_least=0)
    # 12-bit cameras store 0..4095 in files of 16 bits.
    white: int = setting(
        0,
        "Value of files with more than 8 bits that becomes 255. 0: of 255, 1023, 4095, 16383, 65535 the smallest "
        "that holds the brightest training pixel.",
    )
    background: tuple[int, ...] = setting(
        (0, 0, 0),
        "Color, R,G,B of 0..255, seen through what is transparent.",
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
            raise InputError(f"--background={text} must be three numbers of 0..255, as 255,255,255.")

    @property
    def size(self) -> sizes.Size:
        """(height, width) that images are resized to; a width that is still `auto` counts as the height.

        Raises:
            ValueError: the setting is open.
        """
        if not self.image_size:
            raise ValueError("image_size is left open: take the data of Config.resolved()")
        height, width = self.image_size
        if height == sizes.AUTO:
            raise ValueError("image_size is left to the images, see preparation.with_size")
        return height, height if width == sizes.AUTO else width
