"""What an evaluation is asked for, beside its settings."""

from pathlib import Path
from typing import NamedTuple

from cutpaste_tf.images.synthetic import SyntheticOptions


class EvaluationOptions(NamedTuple):
    """How to evaluate, and what to show.

    Attributes:
        heat_maps: whether to localize; None: where heat maps come with the scores, where there are masks, and with
            `gradcam_layer`.
        gradcam_layer: layer of the backbone that an image model's heat maps are made of; empty: what the feature pools.
        synthetic: paste synthetic anomalies onto the normal test images and score those.
        threshold: above which a score is anomalous, in place of the false alarm rate's; None: that.
        calibration_data: a folder of normal images, others than were trained on, that give the threshold; empty: the
            training images give it.
        allow_trained_images: whether test images may have the pixels of training images.
        page: whether to write report.html, which takes the images; scores on kept features need only the features.
        beside: folders of evaluations, or of runs, whose figures stand beside.
        tensorboard_images: whether TensorBoard gets the sheet of heat maps.
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
