"""The method on arrays, in the manner of scikit-learn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from cutpaste_tf import environment
from cutpaste_tf.detection import calibration, loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading, resizing
from cutpaste_tf.progress import Report, no_report, say
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import fitting, preparation


class OutlierDetector(OutlierMixin, BaseEstimator):
    """Learns from normal images, and tells anomalous ones, as scikit-learn's outlier detectors do.

    Args:
        config: the settings of a run, without `data`; by default the paper's. Images are resized to its size.
        verbose: whether to print progress.

    Attributes:
        detector_: the fitted `Detector`, which gives heat maps, p-values and exports.
        offset_: minus the threshold: `decision_function` is `score_samples` less it.
    """

    def __init__(self, config: Config | None = None, *, verbose: bool = False):
        self.config = config
        self.verbose = verbose

    def fit(self, X: np.ndarray, y: None = None) -> Self:  # noqa: N803  scikit-learn passes it by name
        """Trains the network by the configuration's schedule, then fits the density.

        Args:
            X: normal images, RGB, uint8 [count, height, width, 3].
            y: ignored.

        Raises:
            InputError: the images are not such, or too few for the threshold, before any long work.
        """
        environment.check()
        given = Config() if self.config is None else self.config
        report: Report = say if self.verbose else no_report
        config = given.resolved()
        data, network = config.data, config.network.network_of
        if data.data or data.add_normal or network or data.reading.region or sizes.AUTO in data.image_size:
            raise InputError(
                "Settings for arrays have no data, no add_normal, no network_of, no region, and an image_size without "
                "auto."
            )
        images = resizing.resized(np.asarray(X), config.data.size)
        calibration.check(config.decision, len(images))
        hashes = {str(index): reading.pixel_hash(image) for index, image in enumerate(images)}
        if len({*hashes.values()}) < 2:
            raise InputError(f"{len(images)} images, all alike, give no threshold; give at least two different ones.")
        given = preparation.with_density_mode(given, images, report)
        data = TrainingData(hashes, white=255)
        preparation.check_weights(config)
        nets = fitting.initial_networks(config)
        if config.schedule.phases:
            with tempfile.TemporaryDirectory() as folder:
                marked = fitting.marked(images, config, report)
                fitting.fit(nets, marked, config, Path(folder), checkpoint_minutes=5.0, report=report)
        fitting.calibrate_batch_norm(nets, images, config, report)
        detector = loading.make(nets.feature, given, data)
        self.detector_ = detector.fit(images, calibration.groups(data, "none"), report=report)
        if detector.calibration is None:
            raise InputError(f"{len(images)} images are too few for this density to give a threshold; give more.")
        self.offset_ = -detector.threshold_and_rate(detector.calibration)[0]
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Log densities, float64 [count], of images as in `fit`: lower = more anomalous."""
        check_is_fitted(self)
        return -self.detector_.score(np.asarray(X)).scores

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """`score_samples` less `offset_`: below 0 where an image is anomalous."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """int64 [count]: 1 for normal images, -1 for anomalous ones."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __sklearn_tags__(self) -> Any:
        """Tells scikit-learn that images are no tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        return tags
