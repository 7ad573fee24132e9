"""Features of all patches of an image (Section 4.2, A.5), on a grid with a stride.

Patches are in row-major order: of `rows` x `columns` patches, location i has its top left corner at
(stride * (i // columns), stride * (i % columns)).

`exact` passes each patch through the network alone. `fast` runs the network once over the whole image, with dilated
convolutions where the network's stride is too coarse. Zero padding is then at the image's border instead of each
patch's, and a feature also sees pixels around its patch. The last map of a ResNet-18 sees the whole image, so its heat
strays from the defect. The first two stages see 43 and 99 pixels (ImageNet stem), and their heat does not stray:
`--dense=fast --feature=layer1`, or layer2 (docs/log/localization.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from cutpaste_tf import devices
from cutpaste_tf.backend import keras
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.scoring import FeatureSettings
from cutpaste_tf.settings.sizes import Size

# The most pixels in one forward pass: 512 patches of 32 px. The largest feature map of a ResNet-18 is then 134 MB
# (32 MB with the ImageNet stem), for any number of patches or images.
_PIXELS = 2**19
_BYTES = 2**12  # device memory for each pixel, if it is known and large: 16 times the largest feature map
T = TypeVar("T")


class PatchEmbedder:
    """Computes the features of images' patches; reuse it for all images.

    Args:
        each: uint8 [count, height, width, 3] -> float32 [locations, dimensions] for one image after another.
        size: (height, width) of the images.
    """

    def __init__(self, each: Callable[[np.ndarray], Iterator[np.ndarray]], size: Size):
        self._each, self._shape = each, (*size, 3)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Features float32 [locations, dimensions] of the patches of an image uint8 [height, width, 3]."""
        (features,) = self.each(image[None])
        return features

    def each(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """The same for each image in uint8 [count, height, width, 3], one after another.

        Raises:
            ValueError: the images have the wrong size.
        """
        if images.shape[1:] != self._shape:
            raise ValueError(f"images have the shape {images.shape[1:]}, expected {self._shape}")
        yield from self._each(images)


def places(size: int | Size, settings: FeatureSettings) -> Size:
    """Numbers of patches along height and width: (rows, columns).

    Args:
        size: (height, width) of an image, or the side of a square.
        settings: extract_size, stride.
    """
    rows, columns = ((pixels - settings.extract_size) // settings.stride + 1 for pixels in sizes.of(size))
    return rows, columns


def locations(size: int | Size, settings: FeatureSettings) -> int:
    """Number of patches of an image; arguments as for `places`."""
    return math.prod(places(size, settings))


def inside(regions: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Which patches count, bool [count, rows, columns]: those that have a pixel of the region in their middle.

    The middles are as large as the stride, so they cover the image; those at the border extend to it.

    Args:
        regions: bool [count, height, width].
        settings: extract_size, stride.
    """
    for axis, number in enumerate(places(regions.shape[1:], settings), 1):
        begins = np.arange(number) * settings.stride + (settings.extract_size - settings.stride) // 2
        begins[0] = 0
        regions = np.logical_or.reduceat(regions, begins, axis=axis)
    return regions


def function(feature: keras.Model, size: int | Size, settings: FeatureSettings) -> PatchEmbedder:
    """Builds the embedder of patches.

    Args:
        feature: image in [0, 1] -> pooled feature, from `build.feature_model`.
        size: (height, width) of the images, or the side of squares.
        settings: extract_size, stride, dense.
    """
    return {"exact": exact, "fast": fast}[settings.dense](feature, sizes.of(size), settings)


def exact(feature: keras.Model, size: Size, settings: FeatureSettings) -> PatchEmbedder:
    """Passes every patch through the network in batches of one size; cuts the next batch while the device computes."""
    count, together = locations(size, settings), batch_size(size, settings)

    def each(images: np.ndarray) -> Iterator[np.ndarray]:
        parts: list[np.ndarray] = []
        for batch in _ahead(cut(images, settings, together)):
            parts.append(devices.outputs(feature, batch))
            if len(parts) * together >= count:
                yield np.concatenate(parts)[:count]
                parts = []

    return PatchEmbedder(each, size)


def cut(images: np.ndarray, settings: FeatureSettings, together: int) -> Iterator[np.ndarray]:
    """The patches of images uint8 [count, height, width, 3], one image after another.

    Returns:
        Batches float32 [together, extract_size, extract_size, 3] in [0, 1]; an image's last batch is filled up with
        zeros.
    """
    size, stride = settings.extract_size, settings.stride
    _, across = places(images.shape[1:3], settings)
    count = locations(images.shape[1:3], settings)
    rows, columns = np.divmod(np.arange(count), across)
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))[::stride, ::stride]
        for start in range(0, count, together):
            chosen = slice(start, start + together)
            patches = windows[rows[chosen], columns[chosen]].transpose(0, 2, 3, 1)
            batch = np.zeros((together, size, size, 3), np.float32)
            np.divide(patches, np.float32(255), out=batch[: len(patches)])
            yield batch


def batch_size(size: int | Size, settings: FeatureSettings) -> int:
    """Number of patches in a batch of `exact`: all batches have this size, and the last is nearly full."""
    count = locations(size, settings)
    pixels = max(_PIXELS, devices.memory() // _BYTES) * max(1, len(devices.names()))
    return math.ceil(count / math.ceil(count * settings.extract_size**2 / pixels))


def fast(feature: keras.Model, size: Size, settings: FeatureSettings) -> PatchEmbedder:
    """Runs the network once over each image or tile, as many at a time as there are devices."""
    tiling = Tiling.of(size, settings)
    network = fully_convolutional(feature, tiling.size, settings)
    together = max(1, len(devices.names()))

    def computed(images: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(images), together):
            yield from devices.outputs(network, images[start : start + together].astype(np.float32) / 255)

    def each(images: np.ndarray) -> Iterator[np.ndarray]:
        if len(tiling.corners) == 1:
            yield from computed(images)
            return
        for image in images:
            yield tiling.joined(computed(tiling.cut(image)))

    return PatchEmbedder(each, size)


class Tiling(NamedTuple):
    """Tiles of one size that cover an image, and the tile that each patch is taken from.

    Attributes:
        size: (height, width) of a tile; the image's along axes where the image is smaller.
        corners: int [tiles, 2], top and left of each tile, multiples of the stride.
        tile_of: int [locations], for each patch of the image the tile that has it in its middle.
        place_of: int [locations], the patch's place among that tile's patches.
    """

    size: Size
    corners: np.ndarray
    tile_of: np.ndarray
    place_of: np.ndarray

    @classmethod
    def of(cls, size: Size, settings: FeatureSettings) -> Self:
        """The tiles for images of a size; a single tile if tile_size is 0.

        Args:
            size: (height, width) of the image.
            settings: tile_size, tile_overlap, extract_size, stride.
        """
        axes = [_tiles_along(pixels, settings) for pixels in size]
        (rows, row_tile), (columns, column_tile) = axes
        height, width = (min(pixels, settings.tile_size or pixels) for pixels in size)
        across = places((height, width), settings)[1]
        tiles = row_tile[:, None] * len(columns) + column_tile
        row_place = np.arange(len(row_tile)) - rows[row_tile]
        column_place = np.arange(len(column_tile)) - columns[column_tile]
        corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2) * settings.stride
        return cls((height, width), corners, tiles.ravel(), (row_place[:, None] * across + column_place).ravel())

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The tiles [tiles, *size, 3] of an image [height, width, 3]."""
        height, width = self.size
        return np.stack([image[top : top + height, left : left + width] for top, left in self.corners])

    def joined(self, features: Iterator[np.ndarray]) -> np.ndarray:
        """Features [locations, dimensions] of the image from the features of each tile."""
        result = np.empty(0)
        for tile, of_tile in enumerate(features):
            if not tile:
                result = np.empty((len(self.tile_of), of_tile.shape[1]), np.float32)
            chosen = self.tile_of == tile
            result[chosen] = of_tile[self.place_of[chosen]]
        return result


def _tiles_along(pixels: int, settings: FeatureSettings) -> tuple[np.ndarray, np.ndarray]:
    """Tiles along an axis: where each tile begins, in strides, and from which tile each patch is taken."""
    count = places(pixels, settings)[0]
    each = places(min(pixels, settings.tile_size or pixels), settings)[0]
    step = max(1, min(each, (settings.tile_size - settings.tile_overlap) // settings.stride))
    number = 1 + -(-(count - each) // step)
    begins = np.round(np.linspace(0, count - each, number)).astype(int)
    middle = begins + (each - 1) / 2
    return begins, np.argmin(np.abs(np.arange(count)[:, None] - middle), axis=1)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each computed while the previous one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def fully_convolutional(feature: keras.Model, size: Size, settings: FeatureSettings) -> keras.Model:
    """The network from an image to the features of all its patches, float32 [batch, locations, dimensions].

    If a patch's feature map has k x k places, the average is taken over k x k places that are as far apart and as
    centered in the patch. With several maps, the first decides which pixels have places. Any other map is interpolated
    linearly where its places should lie between these.
    """
    inner = next(layer for layer in feature.layers if isinstance(layer, keras.Model))
    step = fast_step(inner, settings)
    taps = [_Taps.of(stride, min(stride, step), settings) for stride in _output_strides(inner)]
    shift = taps[0].first % taps[0].apart
    count = places(size, settings)

    image = keras.Input((*size, 3))
    x: Any = image[:, shift:, shift:]  # pyright: ignore[reportArgumentType, reportCallIssue]
    for layer in feature.layers:
        if isinstance(layer, keras.layers.Normalization):
            x = layer(x)
    maps: Any = dilate(inner, step)(x)
    maps = maps if isinstance(maps, (list, tuple)) else [maps]
    averages = [
        _averaged(keras.ops.cast(each, "float32"), tap, shift, settings.stride, count)
        for each, tap in zip(maps, taps, strict=True)
    ]
    averaged: Any = averages[0] if len(averages) == 1 else keras.ops.concatenate(averages, axis=-1)
    return keras.Model(image, keras.ops.reshape(averaged, (-1, math.prod(count), averaged.shape[-1])))


class _Taps(NamedTuple):
    """The places in a feature map over which a patch's feature is averaged, in pixels along an axis.

    Attributes:
        number: number of places.
        first: distance from the patch's border to the first place.
        between: distance from one place to the next: the network's own stride.
        apart: distance from one place of the dilated map to the next.
    """

    number: int
    first: int
    between: int
    apart: int

    @classmethod
    def of(cls, stride: int, apart: int, settings: FeatureSettings) -> Self:
        number = -(-settings.extract_size // stride)
        return cls(number, (settings.extract_size - (number - 1) * stride) // 2, stride, apart)


def _averaged(x: Any, taps: _Taps, shift: int, stride: int, count: Size) -> Any:
    """Averages [batch, *count, channels] over the places of each patch, in the map of an image without its border.

    Args:
        x: [batch, height, width, channels].
        taps: the places.
        shift: width of the border in pixels.
        stride: distance in pixels from one patch to the next.
        count: number of patches along height and width.
    """
    start, beyond = divmod(max(0, taps.first - shift), taps.apart)
    begins = [start + tap * taps.between // taps.apart for tap in range(taps.number)]
    for axis in (1, 2):
        last, weight = (count[axis - 1] - 1) * stride // taps.apart, beyond / taps.apart
        if begins[-1] + last + 1 >= x.shape[axis]:
            weight = 0.0  # at the image's end, there is no next place to interpolate with

        def of_patches(x: Any, begin: int, axis: int = axis, last: int = last) -> Any:
            chosen = slice(begin, begin + last + 1, stride // taps.apart)
            return x[:, chosen] if axis == 1 else x[:, :, chosen]

        parts = [of_patches(x, begin) for begin in begins]
        if weight:
            following = [of_patches(x, begin + 1) for begin in begins]
            parts = [(1 - weight) * part + weight * other for part, other in zip(parts, following, strict=True)]
        x = keras.ops.mean(keras.ops.stack(parts), axis=0)
    return x


def dilate(backbone: keras.Model, step: int) -> keras.Model:
    """A copy of a ResNet, with the same kernels, whose feature map has a place every `step` pixels.

    Beyond that stride, strided layers keep every place instead, and later layers are dilated by the strides that were
    removed.

    Args:
        backbone: a backbone with explicit padding, such as `resnet.resnet18`.
        step: a power of two, and at least 4 for the ImageNet stem, whose max-pooling is not dilated.

    Raises:
        ValueError: `step` is finer than that.
    """
    strides = _strides(backbone)

    def changed(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        before, after = strides.get(id(_first(layer.input)), 1), strides.get(id(layer.output), 1)
        dilation = max(1, before // step)
        if isinstance(layer, keras.layers.MaxPooling2D) and after > step:
            raise ValueError(f"step={step} is finer than the {after} pixels between the places of max-pooling")
        if isinstance(layer, keras.layers.ZeroPadding2D) and "conv" in layer.name:
            settings["padding"] = [[side * dilation for side in pair] for pair in settings["padding"]]
        elif isinstance(layer, keras.layers.Conv2D):
            settings["strides"] = max(1, min(after, step) // min(before, step))
            settings["dilation_rate"] = dilation
        return type(layer).from_config(settings)

    copy = keras.models.clone_model(backbone, clone_function=changed)
    for layer in backbone.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def fast_step(backbone: keras.Model, settings: FeatureSettings) -> int:
    """Pixels between the feature map places that fast scoring needs: a power of two, at most the stride."""
    return min(settings.stride & -settings.stride, max(_output_strides(backbone)))


def _output_strides(backbone: keras.Model) -> list[int]:
    """Pixels between the places of each feature map that a network returns."""
    strides = _strides(backbone)
    return [strides[id(output)] for output in backbone.outputs]


def _strides(backbone: keras.Model) -> dict[int, int]:
    """Pixels between neighboring places of each layer's output, by the id of its tensor."""
    strides: dict[int, int] = {}
    for layer in backbone.layers:
        stride = layer.strides[0] if isinstance(layer, (keras.layers.Conv2D, keras.layers.MaxPooling2D)) else 1
        strides[id(layer.output)] = stride * strides.get(id(_first(layer.input)), 1)
    return strides


def _first(tensors: Any) -> Any:
    """The first of a layer's inputs; None for an input layer, which has none."""
    return next(iter(tensors), None) if isinstance(tensors, (list, tuple)) else tensors
