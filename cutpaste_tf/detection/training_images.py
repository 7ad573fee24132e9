"""The images a run was fitted to: what its folder stores about them, or the images themselves."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cutpaste_tf import runs
from cutpaste_tf.detection import calibration, embeddings
from cutpaste_tf.detection.embeddings import Embeddings
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import DataSettings
from cutpaste_tf.settings.scoring import FeatureSettings

Embed = Callable[[ImageSet], np.ndarray]


class TrainingImages:
    """The normal images of a run; they are listed and read only if its folder does not store enough.

    Args:
        run_dir: folder of the run.
        config: configuration of the run.
        data: names and hashes of its training images.
        how_read: how to read files; its `data` is where the images are now.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets.
    """

    def __init__(
        self,
        run_dir: Path,
        config: Config,
        data: TrainingData,
        how_read: DataSettings,
        *,
        tfds_data_dir: str,
        report: Report,
    ):
        self._run_dir, self._config, self._data, self._how_read = run_dir, config, data, how_read
        self._tfds_data_dir, self.report = tfds_data_dir, report

    @functools.cached_property
    def images(self) -> ImageSet:
        """The images.

        Raises:
            InputError: they are missing; or, once read, they have changed since the run was made.
        """
        items = sources.list_fitted(
            self._how_read.data, self._how_read, trained=self._data.images, tfds_data_dir=self._tfds_data_dir
        )
        size = self._config.data.size
        return ImageSet(items, size, self._how_read, check=self._refuse_changed, report=self.report)

    def _refuse_changed(self, paths: list[str], hashes: Sequence[str]) -> None:
        if dict(zip(paths, hashes, strict=True)) != self._data.images:
            raise InputError(
                f"The training images have changed since the run in {self._run_dir} was made; train again."
            )

    def groups(self, group_by: str) -> np.ndarray | None:
        """Which images are left out together, see `calibration.groups`."""
        return calibration.groups(self._data, group_by)

    def embeddings(self, features: FeatureSettings, embed: Embed | None, *, needed: bool) -> Embeddings | None:
        """What is known about the images; computed if the run's file has other features or is damaged.

        Args:
            features: which features.
            embed: computes the features; None: there are too many to store, and only the rest is needed.
            needed: whether to compute them if the run stores nothing, as for a detector that was copied alone.
        """
        if embed is not None and features != self._config.features:
            return embeddings.describe(embed(self.images), self.images)
        path = self._run_dir / runs.TRAIN_EMBEDDINGS
        if not path.is_file() and not needed:
            self.report(f"{path.name} was not copied, so there is no Gaussian on pixels to compare with.")
            return None
        try:
            return embeddings.read(path)
        except (InputError, OSError) as error:
            self.report(f"{str(error).rstrip('.')}; recomputing it from the training images.")
        embedded = np.zeros((len(self.images), 0), np.float32) if embed is None else embed(self.images)
        described = embeddings.describe(embedded, self.images, trained=True)
        embeddings.write(path, described)
        return described
