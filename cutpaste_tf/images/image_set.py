"""The images of a data set, read when their pixels are first needed."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np

from cutpaste_tf.images import reading, resizing
from cutpaste_tf.images.reading import Examples, Item
from cutpaste_tf.progress import Report, no_report
from cutpaste_tf.settings.data import DataSettings
from cutpaste_tf.settings.sizes import Size

# Checks images as soon as their pixels are known: (paths, hashes) -> None; raises InputError if they are not allowed.
Check = Callable[[list[str], Sequence[str]], None]


def _allow(paths: list[str], hashes: Sequence[str]) -> None:
    """Allows all images."""


class ImageSet:
    """Images of a data set with their labels and masks.

    Args:
        items: the images.
        size: (height, width) to resize to, or the side of a square.
        settings: how files are read.
        check: called once the images are read or known from a cache.

    Attributes:
        items: the images; empty for images that are not files (`of`).
        settings: how files are read.
    """

    def __init__(
        self,
        items: Sequence[Item],
        size: int | Size,
        settings: DataSettings,
        *,
        check: Check = _allow,
        report: Report = no_report,
    ):
        self.items, self.settings = items, settings
        self._size, self._check, self._report = size, check, report
        self._hashes: Sequence[str] | None = None
        self._thumbnails: np.ndarray | None = None

    @classmethod
    def of(cls, examples: Examples) -> Self:
        """A set of images that are already in memory, such as synthetic images."""
        result = cls([], examples.images.shape[1:3], DataSettings())
        result.examples = examples
        return result

    @functools.cached_property
    def examples(self) -> Examples:
        """The images, resized.

        Raises:
            InputError: a file is damaged, a mask does not fit its image, or `check` refuses an image.
        """
        examples = reading.read(self.items, self._size, self.settings, report=self._report)
        self._check(examples.paths, examples.hashes)
        return examples

    @property
    def is_read(self) -> bool:
        """Whether the pixels are in memory."""
        return "examples" in self.__dict__

    def __len__(self) -> int:
        return len(self.items) or len(self.examples.images)

    @property
    def paths(self) -> list[str]:
        """Name of each image in its data set."""
        return [item.path for item in self.items] or self.examples.paths

    @property
    def labels(self) -> np.ndarray:
        """int32 [count]: 0 normal, 1 anomalous, -1 unknown."""
        return np.array([item.label for item in self.items], np.int32) if self.items else self.examples.labels

    @property
    def defects(self) -> list[str]:
        """Name of each image's defect."""
        return [item.defect for item in self.items] or self.examples.defects

    @property
    def hashes(self) -> Sequence[str]:
        """Hash of each image's pixels, see `reading.Examples`."""
        return self.examples.hashes if self._hashes is None else self._hashes

    @property
    def thumbnails(self) -> np.ndarray:
        """uint8 [count, 32, 32, 3]."""
        if self._thumbnails is None:
            self._thumbnails = resizing.thumbnails(self.examples.images)
        return self._thumbnails

    def recall(self, hashes: Sequence[str], thumbnails: np.ndarray) -> None:
        """Sets hashes and thumbnails from a cache, so that the images need not be read for them.

        Raises:
            InputError: `check` refuses an image.
        """
        self._check(self.paths, hashes)
        self._hashes, self._thumbnails = hashes, thumbnails

    def originals(self) -> Iterator[np.ndarray]:
        """The images at their original sizes, uint8 [height, width, 3]; images that are not files stay as they are."""
        if not self.items:
            yield from self.examples.images
        for item in self.items:
            yield reading.read_pixels(item.image, self.settings, name=item.path)

    @property
    def description(self) -> str:
        """What the images are, for the user."""
        return self.examples.note if self.is_read else f"{len(self)} images"
