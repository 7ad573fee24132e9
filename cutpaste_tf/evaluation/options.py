"""Options of an evaluation other than its settings."""

from pathlib import Path
from typing import NamedTuple

from cutpaste_tf.images.synthetic import SyntheticOptions


class EvaluationOptions(NamedTuple):
    """How to evaluate, and what to show.

    Attributes:
        heat_maps: whether to draw heat maps; None: only if they come with the scores, if there are masks, or if
            `gradcam_layer` is given.
        gradcam_layer: layer of the backbone for an image model's heat maps; empty: the map that the feature pools.
        synthetic: paste synthetic anomalies onto the normal test images and score those.
        threshold: the score above which an image is anomalous; None: the threshold from the false alarm rate.
        calibration_data: a folder of normal images, not used for training, that set the threshold; empty: those of the
            data's folder `validation`, or else the training images.
        allow_trained_images: whether test images may have the same pixels as training images.
        page: whether to write report.html, which needs the images; scores from cached features do not need them.
        beside: folders of evaluations, or of runs, to compare with.
        tensorboard_images: whether to send the sheet of heat maps to TensorBoard.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
    """

    heat_maps: bool | None = None
    gradcam_layer: str = ""
    synthetic: SyntheticOptions | None = None
    threshold: float | None = None
    calibration_data: str | Path = ""
    allow_trained_images: bool = False
    page: bool = True
    beside: tuple[str, ...] = ()
    tensorboard_images: bool = False
    tfds_data_dir: str = ""
