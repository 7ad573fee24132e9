"""The test images of an evaluation, and notes about them for the user."""

from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf import runs
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import layouts, reading, sources, unread
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.images.reading import ANOMALOUS, UNKNOWN
from cutpaste_tf.settings.config import Config


def named_for(run_dirs: Sequence[Path], saved: Config) -> str:
    """The run's test data: from its folder, where the setting can still change after training, or its detector."""
    path = run_dirs[0] / "config.json" if run_dirs else None
    return Config.read(path).data.test_data if path and path.is_file() else saved.data.test_data


def is_moved(data: str, detector: Detector) -> bool:
    """Whether a folder holds a run's training images that were elsewhere when it was trained."""
    root, trained = sources.folder(data), detector.data.images
    try:
        items = sources.list_fitted(root, detector.config.data, trained=trained)
    except (InputError, OSError):  # different data, which may be unsuitable for training
        return False
    if {item.path for item in items} != set(trained):
        return False
    try:
        examples = reading.read(items, detector.size, detector.how_read)
    except InputError:
        return False
    return runs.TrainingData.of(examples).images == trained


def notes(data: str, tests: ImageSet, config: Config) -> list[str]:
    """What the user should know about the test images: what is not read, and which masks look wrong."""
    lines = unread.lines(sources.folder(data), config.data, testing=True)
    notices = tests.examples.notices if tests.is_read else ()
    lines += notices[:5]
    lines += [f"{len(notices) - 5} more notes of this kind."] if len(notices) > 5 else []
    nested = sorted({Path(path).parts[0] for path in tests.paths if len(Path(path).parts) > 1})
    if nested and tests.labels[0] == UNKNOWN:
        lines.append(
            f"These folders do not give labels ({', '.join(nested[:5])}), since none is called "
            f"{config.data.reading.normal_name}; give --normal_name if one of them holds normal images."
        )
    return lines


def lacks_masks(data: str, tests: ImageSet) -> bool:
    """Whether there are anomalous images but no masks, matched or not."""
    is_without = any(tests.labels == ANOMALOUS) and not any(item.masks for item in tests.items)
    return is_without and not layouts.has_masks(sources.folder(data))
