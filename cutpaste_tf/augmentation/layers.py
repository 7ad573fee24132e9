"""CutPaste and CutPaste-Scar as Keras preprocessing layers, over the code of the pipeline.

With the same seed, the nth image that a layer sees gets the bits of the nth image of `pipeline.stream`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from cutpaste_tf.augmentation import color, pipeline, proxy_tasks
from cutpaste_tf.augmentation.proxy_tasks import Augmentation
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.augmentation import AugmentationSettings
from cutpaste_tf.settings.sizes import Size


class _RandomPaste(keras.layers.Layer):
    """Augments each image of a batch; see the subclasses.

    It runs TensorFlow operations: in a tf.data pipeline with any backend, in a model with the TensorFlow backend,
    without XLA.
    """

    augmentation: ClassVar[Augmentation]
    setting_names: ClassVar[tuple[str, ...]]

    def __init__(self, *, seed: int = 0, **options: Any):
        given = {name: options.pop(name) for name in self.setting_names if name in options}
        super().__init__(autocast=False, **options)
        self.seed, self.settings = seed, AugmentationSettings.of(**given)
        self.supports_jit = False
        with tf.device("CPU:0"):
            self._seen = tf.Variable(np.int64(0), trainable=False)  # pyright: ignore[reportArgumentType]
        # Traced, as the pipeline is: other operations would give other last bits.
        self._traced = tf.function(self._augmented, reduce_retracing=True)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Augments images, see `call`."""
        if tf.is_tensor(inputs) and keras.backend.backend() != "tensorflow":
            return self.call(inputs, *args, **kwargs)  # in tf.data, whose tensors Keras would convert
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool = True) -> Any:
        """Augments images.

        Args:
            inputs: one image [height, width, 3] or several [count, height, width, 3], RGB, uint8, or float in [0, 1].
                Height and width must be known when a graph is traced.
            training: if False, images are only scaled.

        Returns:
            float32 of the same shape, in [0, 1].

        Raises:
            InputError: the images have another shape, or a patch may not fit into them.
        """
        is_ours = tf.is_tensor(inputs)
        images = inputs if is_ours else tf.convert_to_tensor(np.asarray(inputs))
        shape, is_known = images.shape, images.dtype == tf.uint8 or images.dtype.is_floating
        if not is_known or shape.rank not in (3, 4) or None in shape[-3:-1] or shape[-1] != 3:
            raise InputError(
                f"{type(self).__name__} takes RGB images [..., height, width, 3] of known size, uint8 or float, not "
                f"{images.dtype.name} {shape}."
            )
        images = color.to_float(images if images.dtype == tf.uint8 else tf.cast(images, tf.float32))
        if training:
            self._check_size((int(shape[-3]), int(shape[-2])))  # pyright: ignore[reportArgumentType]
            images = self._traced(images) if shape.rank == 4 else self._traced(images[None])[0]
        return images if is_ours else keras.ops.convert_to_tensor(images.numpy())

    def _check_size(self, size: Size) -> None:
        """Checks that patches fit into images of this size."""

    def _augmented(self, images: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images, out_type=tf.int64)[0]
        end = self._seen.assign_add(count)
        view_seed = pipeline.view_seed(self.seed)

        def augment(example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, position = example
            # The normal view has the first of the two seeds, see `proxy_tasks.against_normal`.
            _, seed = tf.unstack(tf.random.split(tf.random.fold_in(view_seed, position), 2))  # pyright: ignore[reportArgumentType]
            return type(self).augmentation(image, seed, self.settings)

        positions = tf.range(end - count, end)
        return tf.map_fn(augment, (images, positions), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32))

    def compute_output_spec(self, inputs: Any, training: bool = True) -> Any:
        """The shape of the inputs, float32."""
        return keras.KerasTensor(inputs.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        values = dataclasses.asdict(self.settings)
        return {**super().get_config(), "seed": self.seed, **{name: values[name] for name in self.setting_names}}


@keras.saving.register_keras_serializable("cutpaste_tf")
class RandomCutPaste(_RandomPaste):
    """Cuts a patch out of each image and pastes it elsewhere, color jittered (Section 2.1, A.2).

    Args:
        seed: of the draws.
        options: of `AugmentationSettings`, with its defaults, the paper's: min_patch_area, max_patch_area,
            min_aspect_ratio, max_aspect_ratio, aspect_sampling, patch_jitter; and those of `keras.layers.Layer`.

    Raises:
        InputError: a value is out of range.
    """

    augmentation = staticmethod(proxy_tasks.cutpaste)
    setting_names = (
        "min_patch_area",
        "max_patch_area",
        "min_aspect_ratio",
        "max_aspect_ratio",
        "aspect_sampling",
        "patch_jitter",
    )


@keras.saving.register_keras_serializable("cutpaste_tf")
class RandomCutPasteScar(_RandomPaste):
    """Cuts a thin rectangle out of each image and pastes it elsewhere, color jittered and rotated (Section 2.2, A.2).

    Args:
        seed: of the draws.
        options: of `AugmentationSettings`, with its defaults, the paper's: scar_min_width, scar_max_width,
            scar_min_length, scar_max_length, in pixels, scar_rotation, in degrees, patch_jitter; and those of
            `keras.layers.Layer`.

    Raises:
        InputError: a value is out of range, or (on the first call) a rotated scar may not fit into the images.
    """

    augmentation = staticmethod(proxy_tasks.cutpaste_scar)
    setting_names = (
        "scar_min_width",
        "scar_max_width",
        "scar_min_length",
        "scar_max_length",
        "scar_rotation",
        "patch_jitter",
    )

    def _check_size(self, size: Size) -> None:
        self.settings.check_scar(sizes.of(min(size)))
