"""TensorFlow and Keras as all of this package needs them; imported from here only, and only where it computes.

With Keras on JAX, TensorFlow only feeds: it leaves the GPUs, whose memory it would take, as soon as it is imported,
since nothing can be changed once it has touched them. What a keras.json may say of number formats is set aside.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hides what TensorFlow's C++ prints on import, before any log level holds; exceptions show as ever."""
    try:
        stderr = os.dup(2)
    except OSError:  # a process without one
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with _quietly():
    import keras
    import tensorflow as tf


def leave_gpus() -> None:
    """Lets TensorFlow see no GPU where Keras computes with another backend."""
    if keras.backend.backend() == "tensorflow":
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        warnings.warn(
            f"TensorFlow was at work before cutpaste_tf was imported, and keeps the GPUs' memory ({error}).",
            stacklevel=2,
        )


leave_gpus()
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")

__all__ = ["keras", "leave_gpus", "tf"]
