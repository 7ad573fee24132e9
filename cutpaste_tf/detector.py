"""Network and density together: the one thing a user carries away from a run."""

import functools
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import dense, localization, networks, patch_density, runs
from cutpaste_tf import density as densities
from cutpaste_tf.backend import keras
from cutpaste_tf.config import Config
from cutpaste_tf.dense import Embed
from cutpaste_tf.density import Density
from cutpaste_tf.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.gradcam import GradCam
from cutpaste_tf.images import Examples, thumbnails
from cutpaste_tf.patch_density import PatchDensity
from cutpaste_tf.runs import TrainingData

Report = Callable[[str], object]

# Bytes of patch features that are scored together: 19 images of 3,249 locations and 512 dimensions, or one larger one.
_TOGETHER = 2**27


class Detector:
    """Scores images: image -> feature -> log density -> anomaly score.

    A patch model (`config.patch_size`) does so for each patch of an image; the image's score is its heat map's maximum.

    Args:
        network: from images in [0, 1] to the pooled feature (`networks.Networks.feature`).
        density: fitted to the features of the normal training images, or of their patches.
        config: the configuration of the run that made them; says which feature is meant.

    Attributes:
        feature: network from images in [0, 1] to that feature.
    """

    def __init__(self, network: keras.Model, density: Density | PatchDensity, config: Config):
        self.feature = networks.feature_model(network, config.feature)
        self.density = density
        self.config = config
        self._network = network
        self._gradcams: dict[str, GradCam] = {}

    def feature_named(self, name: str) -> keras.Model:
        """The network to another feature than the run's, see `networks.feature_model`."""
        return networks.feature_model(self._network, name)

    def score(self, images: np.ndarray) -> np.ndarray:
        """Anomaly scores float64 [count], higher = more anomalous, of uint8 [count, side, side, 3]."""
        if self.config.patch_size:
            scores = self.patch_scores(images)
            return localization.image_scores(scores, localization.upsample(scores, self.config), self.config)
        return -self._image_density.score_samples(embed(self.feature, images))

    def patch_scores(self, images: np.ndarray) -> np.ndarray:
        """Anomaly scores of patches, see `score_patches`; for a patch model."""
        if isinstance(self.density, Density):
            raise TypeError("an image model has no scores of patches")
        return score_patches(self.embed_patches, self.density, images, self.config)

    def heat_maps(self, images: np.ndarray, *, layer: str = "") -> np.ndarray:
        """Heat maps float32 [count, side, side] of uint8 [count, side, side, 3]: of patches, or by GradCAM.

        Args:
            images: at `config.image_size`.
            layer: for GradCAM, see `gradcam.GradCam`.
        """
        if self.config.patch_size:
            return localization.upsample(self.patch_scores(images), self.config)
        if layer not in self._gradcams:
            self._gradcams[layer] = GradCam(self.feature, layer=layer)
        return self._gradcams[layer].heat_maps(self._image_density, images)

    @functools.cached_property
    def embed_patches(self) -> Embed:
        """Image -> features of its patches, see `dense.function`; made once, since that takes a while."""
        return dense.function(self.feature, self.config)

    @property
    def _image_density(self) -> Density:
        if not isinstance(self.density, Density):
            raise TypeError("a patch model has no density of whole images")
        return self.density

    def save(self, folder: Path, data: TrainingData) -> None:
        """Writes the folder, whole or not at all: model.keras, config.json, training_data.json and the density."""
        with runs.whole_folder(folder) as partial:
            self._network.save(partial / runs.MODEL)
            if isinstance(self.density, Density):
                np.savez(partial / runs.DENSITY, **self.density.to_arrays())
            else:
                self.density.save(partial)
            data.write(partial)
            (partial / "config.json").write_text(self.config.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Detector":
        """Reads what `save` wrote.

        Raises:
            InputError: the folder is missing or not a detector, or a file of it is damaged.
        """
        if not (folder / runs.MODEL).is_file():
            raise InputError(f"{folder} holds no detector: run train_main.py until it ends, then try again.")
        config = Config.read(folder / "config.json")
        network = _load_network(folder / runs.MODEL)
        if not config.patch_size:
            return cls(network, densities.load(folder / runs.DENSITY, config), config)
        try:
            return cls(network, patch_density.build(config).load(folder), config)
        except runs.DAMAGE as error:
            raise InputError(
                f"The density in {folder} is damaged or of another version ({error}): {runs.COPY_AGAIN}."
            ) from None


def _load_network(path: Path) -> keras.Model:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"its part {damaged} does not match its checksum")
        network: Any = keras.models.load_model(path, compile=False)
        return network
    except Exception as error:  # of zip, JSON, HDF5 or Keras, whichever part it is
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): {runs.COPY_AGAIN}.") from None


def fit_patches(embed_patches: Embed, images: np.ndarray, config: Config, *, report: Report) -> PatchDensity:
    """The density of patches of normal images uint8 [count, side, side, 3]; `embed_patches` as in `score_patches`."""
    features = _with_progress(map(embed_patches, images), len(images), report)
    return patch_density.build(config).fit(features, len(images))


def score_patches(
    embed_patches: Embed, density: PatchDensity, images: np.ndarray, config: Config, *, report: Report = str
) -> np.ndarray:
    """Anomaly scores of all patches of images.

    Args:
        embed_patches: image -> the features of its patches that the density was fitted to, as of `dense.function`.
        density: of patches.
        images: uint8 [count, side, side, 3].
        config: how to score.
        report: takes a line for the user now and then.

    Returns:
        float32 [count, places, places]: negative log density, counted from the density's peak: 0 is the most normal.
    """
    side = dense.places(config)
    scores = np.empty((len(images), side**2), np.float32)
    held, filled = np.empty(0), 0
    for index, one in enumerate(_with_progress(map(embed_patches, images), len(images), report), 1):
        if index == 1:
            held = np.empty((min(len(images), max(1, _TOGETHER // one.nbytes)), *one.shape), np.float32)
        held[filled] = one
        filled += 1
        if filled == len(held) or index == len(images):
            scores[index - filled : index] = density.peak - density.score_samples(held[:filled])
            filled = 0
    return scores.reshape(-1, side, side)


def _with_progress(features: Iterator[np.ndarray], count: int, report: Report) -> Iterator[np.ndarray]:
    """The same features, with a line for the user every half minute."""
    said = time.monotonic()
    for index, one in enumerate(features, 1):
        yield one
        if time.monotonic() - said > 30:
            said = time.monotonic()
            report(f"  patches of {index} of {count} images")


def embed_examples(feature: keras.Model, examples: Examples) -> Embeddings:
    """Features of examples, with what evaluation needs to know of them."""
    return describe(embed(feature, examples.images), examples)


def describe(features: np.ndarray, examples: Examples) -> Embeddings:
    """Puts features and what else is known of examples together."""
    return Embeddings(
        features,
        thumbnails(examples.images),
        examples.paths,
        examples.labels,
        examples.defects,
        examples.hashes,
    )


def embed(feature: keras.Model, images: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Features float32 [count, dimensions] of uint8 images [count, side, side, 3], not augmented."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].astype(np.float32) / 255
        parts.append(np.asarray(feature.predict_on_batch(batch)))
    return np.concatenate(parts)
