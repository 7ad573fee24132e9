"""Small sets that stand in for TensorFlow Datasets' own, under their names."""

import numpy as np
import tensorflow_datasets as tfds

from cutpaste_tf.images import prepared


def write_set(name, features, splits, data_dir):
    """Prepares a small set under the name of one of TensorFlow Datasets' own."""

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: enumerate(records) for split, records in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Small.name = name
    Small(data_dir=data_dir).download_and_prepare()


def write_cifar10(data_dir, count):
    """Pixels uint8 [count, 32, 32, 3] of both splits: class after class, again and again."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    records = [{"id": f"x_{i:02d}", "image": image, "label": i % 10} for i, image in enumerate(pixels)]
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=list(prepared.CIFAR10)),
    }
    write_set("cifar10", features, {"train": records, "test": records}, data_dir)
    return pixels
