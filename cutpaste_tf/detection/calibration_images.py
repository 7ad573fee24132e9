"""Normal images to which a detector was not fitted: they set its threshold.

They are in --calibration_data, or in the folder `validation` of the run's data.
"""

import contextlib
from pathlib import Path

from cutpaste_tf.detection import calibration
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.images import sources, unread
from cutpaste_tf.images.image_set import Check, ImageSet
from cutpaste_tf.progress import Report
from cutpaste_tf.settings.data import DataSettings
from cutpaste_tf.settings.scoring import DecisionSettings
from cutpaste_tf.settings.sizes import Size


class CalibrationImages(ImageSet):
    """Normal images in a folder or set.

    Args:
        place: the folder, or the name of the set.
        size: (height, width) to resize to.
        settings: how files are read.
        check: see `ImageSet`.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets.
        is_given: whether the user gave the place as --calibration_data, for messages.

    Raises:
        InputError: there are none.
    """

    def __init__(
        self,
        place: str | Path,
        size: Size,
        settings: DataSettings,
        *,
        check: Check,
        tfds_data_dir: str = "",
        is_given: bool = True,
        report: Report,
    ):
        self._place, self._is_given = place, is_given
        with self._named():
            items = sources.list_normal(place, settings, tfds_data_dir)
        super().__init__(items, size, settings, check=check, report=report)

    def read(self, decision: DecisionSettings) -> None:
        """Reads the images, before any long work.

        Args:
            decision: what they are needed for.

        Raises:
            InputError: a file is damaged, `check` refuses an image, or there are too few for the false alarm rate.
        """
        with self._named():
            calibration.check(decision, len(self))
            _ = self.examples

    def calibrate(self, detector: Detector, report: Report) -> None:
        """Sets a detector's threshold and p-values from the images, and reports this."""
        for line in unread.lines(sources.folder(self._place), self.settings, testing=False):
            report(f"Note: {line}")
        report(f"Scoring {len(self)} normal images in {self._place} to set the threshold.")
        detector.calibrate(self)

    def _named(self) -> contextlib.AbstractContextManager[None]:
        return sources.named_by(f"{'--calibration_data=' * self._is_given}{self._place}")
