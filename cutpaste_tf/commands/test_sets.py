"""Which images an evaluation is of, and what to tell of them."""

import dataclasses
from pathlib import Path

from cutpaste_tf import runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import layouts, reading, sources
from cutpaste_tf.images.reading import UNKNOWN, Examples, Item
from cutpaste_tf.progress import Report
from cutpaste_tf.settings.config import Config


def own(run_dir: Path, saved: Config) -> str:
    """The run's own test data, which can be named anew after its end: its folder knows better than its detector."""
    path = run_dir / "config.json"
    return Config.read(path).data.test_data if path.is_file() else saved.data.test_data


def is_moved(data: str, run_dir: Path, saved: Config) -> bool:
    """Whether a folder holds the training images of a run that was trained on them elsewhere."""
    root = sources.folder(data)
    trained = runs.TrainingData.read(runs.find_detector(run_dir))
    try:
        items = layouts.list_train(root, saved.data, trained=trained.images)
    except (InputError, OSError):  # other data, which need not be fit to learn from
        return False
    if {item.path for item in items} != set(trained.images):
        return False
    as_trained = dataclasses.replace(saved.data, white=trained.white)
    try:
        return runs.TrainingData.of(reading.read(items, saved.data.image_size, as_trained)).images == trained.images
    except InputError:
        return False


def tell(
    data: str,
    items: list[Item],
    config: Config,
    examples: Examples | None,
    report: Report,
) -> None:
    """Says what the user should know of test images: what is not read, and which masks look wrong."""
    root = sources.folder(data)
    lines = layouts.unread(root, config.data, testing=True)
    notices = examples.notices if examples else ()
    lines += notices[:5]
    lines += [f"{len(notices) - 5} more notes of this kind."] if len(notices) > 5 else []
    nested = sorted({Path(item.path).parts[0] for item in items if len(Path(item.path).parts) > 1})
    if nested and items[0].label == UNKNOWN:
        lines.append(
            f"Folders are no labels here ({', '.join(nested[:5])}), since none is called "
            f"{config.data.reading.normal_name}: give --normal_name if one of them holds normal images."
        )
    for line in lines:
        report(f"Note: {line}")
