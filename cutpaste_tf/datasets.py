"""Where images come from: a name -> items to read. A folder, or a set of TensorFlow Datasets."""

from pathlib import Path

from cutpaste_tf import folders, images, prepared
from cutpaste_tf.images import Examples, Item


def list_train(data: str | Path, *, tfds_data_dir: str = "") -> list[Item]:
    """The normal training images.

    Args:
        data: a category folder, a folder of normal images, `mvtec_ad/CATEGORY` or `cifar10/CLASS`.
        tfds_data_dir: where TensorFlow Datasets keeps its sets; empty for its default.

    Raises:
        InputError: what `data` names is missing, too small or damaged.
    """
    if prepared.is_prepared_name(str(data)):
        return prepared.list_train(str(data), prepared.data_dir(tfds_data_dir))
    return folders.list_train(Path(data).expanduser())


def list_test(data: str | Path, *, tfds_data_dir: str = "") -> list[Item]:
    """Test images with their labels and masks; arguments and errors as `list_train`."""
    if prepared.is_prepared_name(str(data)):
        return prepared.list_test(str(data), prepared.data_dir(tfds_data_dir))
    return folders.list_test(Path(data).expanduser())


def read_train(data: str | Path, size: int, *, tfds_data_dir: str = "") -> Examples:
    """Reads what `list_train` lists, resized to size x size pixels."""
    return images.read(list_train(data, tfds_data_dir=tfds_data_dir), size)


def read_test(data: str | Path, size: int, *, tfds_data_dir: str = "") -> Examples:
    """Reads what `list_test` lists, resized to size x size pixels."""
    return images.read(list_test(data, tfds_data_dir=tfds_data_dir), size)
