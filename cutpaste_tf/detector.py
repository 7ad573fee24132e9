"""Network and density together: the one thing a user carries away from a run."""

from pathlib import Path

import keras
import numpy as np

from cutpaste_tf import density as densities
from cutpaste_tf import runs
from cutpaste_tf.config import Config
from cutpaste_tf.density import GaussianDensity
from cutpaste_tf.errors import InputError


class Detector:
    """Scores images: image -> pooled feature -> log density -> anomaly score.

    Args:
        feature: network from images in [0, 1] to features (`networks.Networks.feature`).
        density: fitted to the features of the normal training images.
        config: the configuration of the run that made them.
    """

    def __init__(self, feature: keras.Model, density: GaussianDensity, config: Config):
        self.feature = feature
        self.density = density
        self.config = config

    def score(self, images: np.ndarray) -> np.ndarray:
        """Anomaly scores float64 [count], higher = more anomalous, of uint8 [count, side, side, 3]."""
        return self.score_features(embed(self.feature, images))

    def score_features(self, features: np.ndarray) -> np.ndarray:
        """Anomaly scores float64 [count], higher = more anomalous, of features [count, dimensions]."""
        return -self.density.score_samples(features)

    def save(self, folder: Path) -> None:
        """Writes the folder, whole or not at all: model.keras, density.npz, config.json."""
        with runs.whole_folder(folder) as partial:
            self.feature.save(partial / "model.keras")
            np.savez(partial / "density.npz", **self.density.to_arrays())
            (partial / "config.json").write_text(self.config.to_json())

    @classmethod
    def load(cls, folder: Path) -> "Detector":
        """Reads what `save` wrote.

        Raises:
            InputError: the folder is missing or not a detector.
        """
        if not (folder / "model.keras").is_file():
            raise InputError(f"{folder} holds no detector: run train_main.py until it ends, then try again.")
        config = Config.read(folder / "config.json")
        feature = keras.models.load_model(folder / "model.keras", compile=False)
        with np.load(folder / "density.npz") as arrays:
            density = densities.DENSITIES[config.density].from_arrays(
                dict(arrays), l2_normalize=config.l2_normalize, reg_covar=config.reg_covar
            )
        return cls(feature, density, config)


def embed(feature: keras.Model, images: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Features float32 [count, dimensions] of uint8 images [count, side, side, 3], not augmented."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].astype(np.float32) / 255
        parts.append(np.asarray(feature.predict_on_batch(batch)))
    return np.concatenate(parts)
