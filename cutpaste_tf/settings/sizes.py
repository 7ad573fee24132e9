"""Sizes of images in pixels: (height, width), as in NumPy."""

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

from cutpaste_tf.errors import InputError

Size: TypeAlias = tuple[int, int]
AUTO = -1  # for an axis: taken from the training images
LARGEST = 2**14


def parsed(value: Any) -> tuple[int, ...]:
    """A size setting as (height, width); `()` if it is open.

    Args:
        value: a number for a square; `HEIGHT,WIDTH`, `HEIGHT,auto` or `auto` as text; or two numbers. 0 and an empty
            value are open.

    Raises:
        InputError: it is anything else.
    """
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    parts = [part.strip() if isinstance(part, str) else part for part in parts]
    if parts in ([], [""], ["0"], [0]):
        return ()
    try:
        numbers = [
            AUTO if part in ("auto", AUTO) else operator.index(int(part) if isinstance(part, str) else part)
            for part in parts
        ]
    except (TypeError, ValueError):
        numbers = []
    if not 1 <= len(numbers) <= 2 or numbers[0] == AUTO != numbers[-1]:
        text = value if isinstance(value, str) else ",".join(map(str, parts))
        raise InputError(f"--image_size={text} must be a number, HEIGHT,WIDTH or HEIGHT,auto, such as 256 or 256,640.")
    return numbers[0], numbers[-1]


def of(size: int | Size) -> Size:
    """(height, width) of a size, or of a square given by its side."""
    return (size, size) if isinstance(size, int) else size


def as_flag(size: Sequence[int]) -> str:
    """A size in the form that `--image_size` takes."""
    height, width = size
    texts = ["auto" if number == AUTO else str(number) for number in size]
    return texts[0] if height == width else ",".join(texts)


def shown(size: int | Size) -> str:
    """A size for messages: width x height, as usual for image files."""
    height, width = of(size)
    return f"{width} x {height}"
