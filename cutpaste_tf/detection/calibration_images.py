"""The images in --calibration_data: normal images to which the detector was not fitted; they set its threshold."""

from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.images import sources, unread
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import Report


def listed(
    detector: Detector,
    place: str | Path,
    *,
    mend: str = "",
    allow_trained_images: bool = False,
    tfds_data_dir: str = "",
    report: Report,
) -> ImageSet:
    """The calibration images in a folder or set, not yet read, see `read`.

    Args:
        detector: the detector to calibrate.
        place: a folder, or the name of a set.
        mend: advice if training images are among them; empty: see `runs.TrainingData.refuse`.
        allow_trained_images: whether training images may be among them.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets.

    Raises:
        InputError: there are none; or, once they are read, a training image is among them.
    """
    with sources.named_by(_flag(place)):
        items = sources.list_normal(place, detector.how_read, tfds_data_dir)

    def check(paths: list[str], hashes: Sequence[str]) -> None:
        if not allow_trained_images:
            detector.data.refuse(paths, hashes, *([mend] if mend else []))

    return ImageSet(items, detector.size, detector.how_read, check=check, report=report)


def read(images: ImageSet, place: str | Path) -> None:
    """Reads the images before any long work.

    Raises:
        InputError: a file is damaged, or a training image is among them.
    """
    with sources.named_by(_flag(place)):
        _ = images.examples


def calibrate(detector: Detector, images: ImageSet, place: str | Path, report: Report) -> None:
    """Sets a detector's threshold and p-values from the images and reports this."""
    for line in unread.lines(sources.folder(place), detector.how_read, testing=False):
        report(f"Note: {line}")
    report(f"Scoring {len(images)} normal images in {place} to set the threshold.")
    detector.calibrate(images)


def _flag(place: str | Path) -> str:
    return f"--calibration_data={place}"
