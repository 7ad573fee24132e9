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
    """

    train: Embeddings | None
    test: Embeddings
    scores: np.ndarray
    maps: np.ndarray | None
