"""Rotates a rectangle of pixels about its center."""

from __future__ import annotations

from cutpaste_tf.backend import tf


def rotated_box(height: tf.Tensor, width: tf.Tensor, angle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width, in pixels, of the bounding box of a rotated rectangle."""
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    cosine, sine = tf.abs(tf.cos(angle)), tf.abs(tf.sin(angle))
    # Subtract a thousandth of a pixel, so that rounding errors do not widen an unrotated box.
    box_height = tf.math.ceil(height * cosine + width * sine - 1e-3)
    box_width = tf.math.ceil(height * sine + width * cosine - 1e-3)
    return tf.cast(box_height, tf.int32), tf.cast(box_width, tf.int32)


def rotate(
    patch: tf.Tensor, angle: tf.Tensor, box_height: tf.Tensor, box_width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rotates a patch about its center into a box.

    Returns:
        Pixels float32 [box_height, box_width, 3], bilinear, extended beyond the patch by its edge values; and alpha
        [box_height, box_width, 1] in [0, 1], the fraction of each pixel that the patch covers.
    """
    shape = tf.cast(tf.shape(patch), tf.float32)
    center_y, center_x = (shape[0] - 1.0) / 2.0, (shape[1] - 1.0) / 2.0
    box_y = (tf.cast(box_height, tf.float32) - 1.0) / 2.0
    box_x = (tf.cast(box_width, tf.float32) - 1.0) / 2.0
    cosine, sine = tf.cos(angle), tf.sin(angle)
    # Maps (x, y) in the box to (x, y) in the patch: the inverse rotation, in image coordinates (y points down).
    shift_x = center_x - cosine * box_x + sine * box_y
    shift_y = center_y - sine * box_x - cosine * box_y
    transform = [[cosine, -sine, shift_x, sine, cosine, shift_y, 0.0, 0.0]]
    box = tf.stack([box_height, box_width])

    def warp(image: tf.Tensor, fill_mode: str) -> tf.Tensor:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=image[tf.newaxis],
            transforms=transform,
            output_shape=box,
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode=fill_mode,
        )[0]

    return warp(patch, "NEAREST"), warp(tf.ones_like(patch[:, :, :1]), "CONSTANT")
