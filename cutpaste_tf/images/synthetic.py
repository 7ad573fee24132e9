"""Synthetic anomalies (Section 5.3, Table 6): a shape with foreign content, pasted onto normal test images.

Shapes are MNIST digits and dSprites' square, ellipse and heart. They are filled with a random color or with a piece of
a natural image. The paper gives neither size nor pose. Here, as in dSprites, shapes other than digits are rotated by a
random angle, and size and position are uniform: 10 to 30 % of the image's shorter side, entirely inside the image. Uses
only NumPy and Pillow.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cutpaste_tf import arrays
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, prepared, reading, regions
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL, Examples
from cutpaste_tf.progress import Report
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.data import GOOD

SHAPES = ("mnist", "square", "ellipse", "heart")
FILLS = ("color", "image")
SMALLEST, LARGEST = 0.1, 0.3  # extent of a shape, as a fraction of the image's shorter side
_FINE = 4  # supersampling of outlines, for antialiasing

# Draws an outline: (rng, extent in pixels) -> float64 [extent, extent], the covered fraction of each pixel.
Outline = Callable[[np.random.Generator, int], np.ndarray]


class SyntheticOptions(NamedTuple):
    """The options of `eval_main.py --synthetic`.

    Attributes:
        shape: one of SHAPES.
        fill: one of FILLS.
        images: folder of natural images; empty for scikit-learn's.
        seed: of the drawing.
    """

    shape: str
    fill: str
    images: str
    seed: int


def with_twins(
    normal: Examples, options: SyntheticOptions, tfds_data_dir: str, report: Report, *, has_regions: bool = False
) -> Examples:
    """Calls `make` with the content that the options ask for.

    Args:
        normal: test images.
        options: what to paste.
        tfds_data_dir: where TensorFlow Datasets may have MNIST; empty for its default.
        has_regions: whether the images carry regions; anomalies are then cut off at their edges.
    """
    natural, digits = [], np.empty(0)
    if options.fill == "image":
        natural, note = read_natural(options.images)
        report(f"Filling from {note}.")
    if options.shape == "mnist":
        digits, note = read_digits(prepared.data_dir(tfds_data_dir))
        report(f"Digits: {note}.")
    twins = make(normal, options.shape, options.fill, seed=options.seed, natural=natural, digits=digits)
    return _cut_off(twins) if has_regions else twins


def _cut_off(twins: Examples) -> Examples:
    """The result of `make`, with anomalies only inside the regions."""
    count = len(twins.images) // 2
    masks = list(twins.masks)
    for index in range(count):
        inside, twin = regions.inside(twins.images[index]), count + index
        twins.images[twin] = regions.blank(twins.images[twin], inside)
        mask = masks[twin]
        masks[twin] = None if mask is None else mask & inside
    hashes = [reading.pixel_hash(image) for image in arrays.rows(twins.images)]
    return twins._replace(masks=masks, hashes=hashes)


def make(
    normal: Examples, shape: str, fill: str, *, seed: int, natural: list[np.ndarray], digits: np.ndarray
) -> Examples:
    """Adds, for each normal image, a copy with an anomaly.

    Args:
        normal: test images; those not known to be normal are ignored.
        shape: one of SHAPES.
        fill: one of FILLS.
        seed: image i uses the seed (seed, i), independent of the other images.
        natural: uint8 [height, width, 3] each, for the fill `image`.
        digits: uint8 [count, height, width], white on black, for the shape `mnist`.

    Returns:
        The normal images, then their anomalous copies with masks.

    Raises:
        InputError: no image is known to be normal.
    """
    chosen = np.flatnonzero(normal.labels == NORMAL)
    if not len(chosen):
        raise InputError("--synthetic needs test images that are known to be normal; test/good holds none.")
    count, size = len(chosen), sizes.shown(normal.images.shape[1:3])
    outline = functools.partial(_digit, digits) if shape == "mnist" else OUTLINES[shape]
    pixels = arrays.allocate(2 * count, normal.images.shape[1:])
    masks: list[np.ndarray | None] = [None] * count
    for place, index in enumerate(chosen):
        rng = np.random.default_rng([seed, place])
        pixels[place] = normal.images[index]
        pixels[count + place], mask = paste(normal.images[index], rng, outline, natural if fill == "image" else None)
        masks.append(mask)
    names = [Path(normal.paths[index]) for index in chosen]
    unique = [f"{i:04d}_{name.stem[:40]}.png" for i, name in enumerate(names)]  # within the limit for file names
    return Examples(
        pixels,
        [f"test/good/{name}" for name in unique] + [f"test/{shape}/{name}" for name in unique],
        np.repeat(np.array([NORMAL, ANOMALOUS], np.int32), count),
        [GOOD] * count + [shape] * count,
        masks,
        f"{count} normal images of {size} px and their twins with an anomaly ({shape}), filled with "
        + ("a random color" if fill == "color" else "a piece of a natural image"),
        hashes=[reading.pixel_hash(image) for image in arrays.rows(pixels)],
    )


def paste(
    image: np.ndarray,
    rng: np.random.Generator,
    outline: Outline,
    natural: list[np.ndarray] | None,
    *,
    extents: tuple[float, float] = (SMALLEST, LARGEST),
) -> tuple[np.ndarray, np.ndarray]:
    """Pastes one anomaly.

    Args:
        image: uint8 [height, width, 3].
        rng: source of all randomness.
        outline: draws the shape.
        natural: images to cut the content from; None fills with a random color.
        extents: the smallest and largest extent, as fractions of the image's shorter side.

    Returns:
        The image uint8 [height, width, 3] and the mask bool [height, width].
    """
    height, width = image.shape[:2]
    extent = max(4, round(rng.uniform(*extents) * min(height, width)))
    top, left = rng.integers(height - extent + 1), rng.integers(width - extent + 1)
    alpha = outline(rng, extent)
    content = rng.uniform(0, 255, 3) if natural is None else _piece(rng, natural, extent)
    box = slice(top, top + extent), slice(left, left + extent)
    result, mask = image.copy(), np.zeros((height, width), bool)
    below = image[box].astype(np.float64)
    result[box] = np.floor(below + alpha[..., None] * (content - below) + 0.5).astype(np.uint8)
    mask[box] = alpha > 0.05
    return result, mask


def save(examples: Examples, folder: Path) -> None:
    """Writes images and masks in MVTec AD's layout, for viewing or for another evaluation."""
    for path, image, mask in zip(examples.paths, examples.images, examples.masks, strict=True):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
        if mask is not None:
            file = (folder / "ground_truth" / Path(path).relative_to("test")).with_name(f"{file.stem}_mask.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(file)


def read_digits(tfds_data_dir: Path) -> tuple[np.ndarray, str]:
    """MNIST's test digits if TensorFlow Datasets has prepared them, otherwise scikit-learn's 8 x 8 digits.

    Returns:
        uint8 [count, height, width], white on black; and a description for the user.
    """
    command = prepared.prepare_command("mnist", tfds_data_dir)
    try:
        folder = prepared.find(tfds_data_dir / "mnist", "mnist", command)
    except InputError:
        from sklearn.datasets import load_digits

        digits = np.round(load_digits().images * (255 / 16)).astype(np.uint8)  # pyright: ignore[reportAttributeAccessIssue]
        return digits, f"scikit-learn's {len(digits)} digits of 8 x 8 pixels; to use MNIST's instead, run: {command}"
    digits = np.stack([record["image"][..., 0] for record in prepared.records(folder, "test", ())])
    return digits, f"{len(digits)} MNIST digits"


def read_natural(folder: str) -> tuple[list[np.ndarray], str]:
    """The images of a folder at their original sizes, or the two photographs that come with scikit-learn.

    Raises:
        InputError: the folder is missing or holds no images.
    """
    if not folder:
        from sklearn.datasets import load_sample_images

        return list(load_sample_images().images), "scikit-learn's photographs china.jpg and flower.jpg"
    files = folders.image_files(Path(folder).expanduser()) if Path(folder).expanduser().is_dir() else []
    if not files:
        raise InputError(f"--synthetic_images={folder} is not a folder of images.")
    return [reading.read_pixels(file) for file in files], f"{len(files)} images in {folder}"


def _piece(rng: np.random.Generator, natural: list[np.ndarray], extent: int) -> np.ndarray:
    """A random piece of a random image; an image smaller than the piece is enlarged."""
    source = natural[rng.integers(len(natural))]
    smallest = min(source.shape[:2])
    if smallest < extent:
        scale = extent / smallest
        size = (max(extent, round(source.shape[1] * scale)), max(extent, round(source.shape[0] * scale)))
        source = np.asarray(Image.fromarray(source).resize(size, Image.Resampling.BILINEAR))
    top = rng.integers(source.shape[0] - extent + 1)
    left = rng.integers(source.shape[1] - extent + 1)
    return source[top : top + extent, left : left + extent].astype(np.float64)


def _digit(digits: np.ndarray, rng: np.random.Generator, extent: int) -> np.ndarray:
    """A random digit, not rotated."""
    digit = Image.fromarray(digits[rng.integers(len(digits))])
    return np.asarray(digit.resize((extent, extent), Image.Resampling.BILINEAR)).astype(np.float64) / 255


def _turned(rng: np.random.Generator, extent: int) -> tuple[np.ndarray, np.ndarray]:
    """Supersampled coordinates (x, y up) of a box rotated by a random angle; the inscribed circle has radius 1."""
    axis = (np.arange(extent * _FINE) + 0.5) / (extent * _FINE) * 2 - 1
    angle = rng.uniform(0, 2 * np.pi)
    x, y = axis[None, :], -axis[:, None]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _reduced(inside: np.ndarray) -> np.ndarray:
    extent = len(inside) // _FINE
    return inside.reshape(extent, _FINE, extent, _FINE).mean((1, 3))


def _square(rng: np.random.Generator, extent: int) -> np.ndarray:
    x, y = _turned(rng, extent)
    return _reduced(np.maximum(np.abs(x), np.abs(y)) <= np.sqrt(0.5))


def _ellipse(rng: np.random.Generator, extent: int) -> np.ndarray:
    x, y = _turned(rng, extent)
    return _reduced(x**2 + (2 * y) ** 2 <= 1)


def _heart(rng: np.random.Generator, extent: int) -> np.ndarray:
    x, y = _turned(rng, extent)
    x, y = 1.35 * x, 1.35 * y + 0.1  # the curve (x^2 + y^2 - 1)^3 = x^2 y^3, inside the circle
    return _reduced((x**2 + y**2 - 1) ** 3 <= x**2 * y**3)


OUTLINES: dict[str, Outline] = {"square": _square, "ellipse": _ellipse, "heart": _heart}
