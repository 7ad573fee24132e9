"""Network and density together: the one thing a user carries away from a run."""

from pathlib import Path

import keras
import numpy as np

from cutpaste_tf import density as densities
from cutpaste_tf import networks, runs
from cutpaste_tf.config import Config
from cutpaste_tf.density import Density
from cutpaste_tf.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import Examples, thumbnails


class Detector:
    """Scores images: image -> feature -> log density -> anomaly score.

    Args:
        network: from images in [0, 1] to the pooled feature (`networks.Networks.feature`).
        density: fitted to the features of the normal training images.
        config: the configuration of the run that made them; says which feature is meant.

    Attributes:
        feature: network from images in [0, 1] to that feature.
    """

    def __init__(self, network: keras.Model, density: Density, config: Config):
        self.feature = networks.feature_model(network, config.feature)
        self.density = density
        self.config = config
        self._network = network

    def feature_named(self, name: str) -> keras.Model:
        """The network to another feature than the run's, see `networks.feature_model`."""
        return networks.feature_model(self._network, name)

    def score(self, images: np.ndarray) -> np.ndarray:
        """Anomaly scores float64 [count], higher = more anomalous, of uint8 [count, side, side, 3]."""
        return self.score_features(embed(self.feature, images))

    def score_features(self, features: np.ndarray) -> np.ndarray:
        """Anomaly scores float64 [count], higher = more anomalous, of features [count, dimensions]."""
        return -self.density.score_samples(features)

    def save(self, folder: Path) -> None:
        """Writes the folder, whole or not at all: model.keras, density.npz, config.json."""
        with runs.whole_folder(folder) as partial:
            self._network.save(partial / runs.MODEL)
            np.savez(partial / runs.DENSITY, **self.density.to_arrays())
            (partial / "config.json").write_text(self.config.to_json())

    @classmethod
    def load(cls, folder: Path) -> "Detector":
        """Reads what `save` wrote.

        Raises:
            InputError: the folder is missing or not a detector.
        """
        if not (folder / runs.MODEL).is_file():
            raise InputError(f"{folder} holds no detector: run train_main.py until it ends, then try again.")
        config = Config.read(folder / "config.json")
        network = keras.models.load_model(folder / runs.MODEL, compile=False)
        with np.load(folder / runs.DENSITY) as arrays:
            return cls(network, densities.build(config).restore(dict(arrays)), config)


def embed_examples(feature: keras.Model, examples: Examples) -> Embeddings:
    """Features of examples, with what evaluation needs to know of them."""
    return Embeddings(
        embed(feature, examples.images),
        thumbnails(examples.images),
        examples.paths,
        examples.labels,
        examples.defects,
    )


def embed(feature: keras.Model, images: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Features float32 [count, dimensions] of uint8 images [count, side, side, 3], not augmented."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].astype(np.float32) / 255
        parts.append(np.asarray(feature.predict_on_batch(batch)))
    return np.concatenate(parts)
