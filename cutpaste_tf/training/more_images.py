"""A density of more images than the network was trained on (`--add_normal`); the network may be a finished run's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf import runs
from cutpaste_tf.detection.network import Network
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.images.reading import Item
from cutpaste_tf.progress import Report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config

# What a run's folder says about how its network and settings came about.
_HISTORY = ("train_log.csv", "augmentations.png", "choice.csv", "choice.png")


def network_of(config: Config) -> Network | None:
    """The network of a finished run, if the configuration names one.

    Raises:
        InputError: it has no such feature.
    """
    if not config.network.network_of:
        return None
    network = Network(runs.find_detector(Path(config.network.network_of)) / runs.MODEL)
    network.feature(config.features.feature)
    return network


def trained_on(config: Config) -> TrainingData | None:
    """The images of the run whose network is used; None if the network is new."""
    place = config.network.network_of
    return TrainingData.read(runs.find_detector(Path(place))) if place else None


def refuse_tested(added: Sequence[Item], tested: Sequence[Item]) -> None:
    """Checks that no image that is added is a test image, or a copy of one.

    Raises:
        InputError: some are.
    """
    with sources.named_by("--add_normal"):
        sources.refuse_copies([*added], [*tested])


def check(config: Config, data: TrainingData, added: int, report: Report) -> None:
    """Checks that the images that are added are new, and the others those of the run whose network is used, if any.

    Args:
        config: the run's configuration.
        data: its images, those that are added last.
        added: how many are added.

    Raises:
        InputError: they are not.
    """
    before, names = trained_on(config), [*data.images]
    known = {} if before is None else before.images
    new = {name: data.images[name] for name in names[len(names) - added :] if name not in known}
    old = {name: digest for name, digest in data.images.items() if name not in new}
    if before is not None and old != known:
        raise InputError(
            f"The training images have changed since the run in {config.network.network_of} was made; put new ones "
            "into a folder of their own and give it as --add_normal."
        )
    by_pixels = {digest: name for name, digest in old.items()}
    if same := [f"{name} = {by_pixels[digest]}" for name, digest in new.items() if digest in by_pixels]:
        raise InputError(
            f"--add_normal: {len(same)} of {len(new)} images have the same pixels as training images "
            f"({', '.join(same[:3])}); remove them."
        )
    if new:
        report(f"Adding {len(new)} normal images to {len(old)}, for the density only.")


def copy_history(config: Config, folder: Path) -> None:
    """Copies what the folder of the run whose network is used says about its training."""
    for name in _HISTORY:
        if (path := Path(config.network.network_of) / name).is_file():
            shutil.copyfile(path, folder / name)
