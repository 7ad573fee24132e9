"""Where images come from: a name -> examples. A folder, or a set of TensorFlow Datasets."""

from pathlib import Path

from cutpaste_tf import folders, images, prepared
from cutpaste_tf.images import Examples


def read_train(data: str | Path, size: int, *, tfds_data_dir: str = "") -> Examples:
    """Reads the normal training images, resized to size x size.

    Args:
        data: a category folder, a folder of normal images, `mvtec_ad/CATEGORY` or `cifar10/CLASS`.
        size: in pixels.
        tfds_data_dir: where TensorFlow Datasets keeps its sets; empty for its default.

    Raises:
        InputError: what `data` names is missing, too small or damaged.
    """
    if prepared.is_prepared_name(str(data)):
        items = prepared.train_items(str(data), prepared.data_dir(tfds_data_dir))
    else:
        items = folders.train_items(Path(data).expanduser())
    return images.read(items, size)


def read_test(data: str | Path, size: int, *, tfds_data_dir: str = "") -> Examples:
    """Reads test images with their labels and masks; arguments and errors as `read_train`."""
    if prepared.is_prepared_name(str(data)):
        items = prepared.test_items(str(data), prepared.data_dir(tfds_data_dir))
    else:
        items = folders.test_items(Path(data).expanduser())
    return images.read(items, size)
