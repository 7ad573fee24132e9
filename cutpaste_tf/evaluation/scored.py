"""What scoring hands to judging."""

from typing import NamedTuple

import numpy as np

from cutpaste_tf.detection.embeddings import Embeddings


class Scored(NamedTuple):
    """What scoring found.

    Attributes:
        train: the normal training images; None where nothing is kept of them, as in a detector copied alone.
        test: the test images; `features` are the patches' scores, for a patch model.
        scores: anomaly score of each test image, float64 [count], higher = more anomalous.
        maps: heat maps float32 [count, side, side], or None.
        held_out: scores of normal images, or of their patches, that the density does not know, see `calibration.of`;
            None where there are none.
    """

    train: Embeddings | None
    test: Embeddings
    scores: np.ndarray
    maps: np.ndarray | None
    held_out: np.ndarray | None
