"""Several runs as one detector: the mean of their log densities (Table 1, last column)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cutpaste_tf.detection import heat_maps
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.scored import Scored
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings.config import Config


def check(members: Sequence[tuple[Path, Config, TrainingData]]) -> None:
    """Sees whether runs can be one detector.

    Args:
        members: folder, settings and training images of each run.

    Raises:
        InputError: they learnt from other images, or are of another kind.
    """
    first, config, data = members[0]
    for run_dir, other, other_data in members[1:]:
        groups = config.features, config.density, config.heat_maps
        for name in ("patch_size", "image_size", *(name for group in groups for name in group.flat())):
            ours, theirs = (one.flat()[name] for one in (config, other))
            if ours != theirs:
                raise InputError(f"{run_dir} has --{name}={theirs} and {first} {ours}; an ensemble's are the same.")
        if other_data.images != data.images:
            raise InputError(f"{run_dir} was trained on other images than {first}; an ensemble's are the same.")


def mean(members: Sequence[Scored], config: Config) -> Scored:
    """What an ensemble finds: scores, and heat maps if there are any, of the mean of its members' log densities.

    Args:
        members: what each of them found, of the same images.
        config: of the first of them.

    Returns:
        The same with every member's features, side by side; of a patch model the mean of the patches' scores.
    """
    first = members[0]
    if len(members) == 1:
        return first
    every = [member.test.features for member in members]
    held_out = _mean_held_out([member.held_out for member in members])
    has_maps = first.maps is not None
    if config.patch_size:
        features = np.mean(every, axis=0)
        maps = heat_maps.upsample(features, config.data.image_size, config.features, config.heat_maps)
        scores = heat_maps.image_scores(features, maps, config.heat_maps)
        test = first.test._replace(features=features)
        return Scored(first.train, test, scores, maps if has_maps else None, held_out)
    train = first.train
    known = [member.train.features for member in members if member.train is not None]
    if train is not None:
        train = train._replace(features=np.concatenate(known, axis=1)) if len(known) == len(members) else None
    test = first.test._replace(features=np.concatenate(every, axis=1))
    maps = first.maps
    for member in members[1:]:
        if maps is not None and member.maps is not None:
            maps += member.maps  # in place: they may lie in a file
    if maps is not None:
        maps /= len(members)
    return Scored(train, test, np.mean([member.scores for member in members], axis=0), maps, held_out)


def _mean_held_out(members: list[np.ndarray | None]) -> np.ndarray | None:
    known = [one for one in members if one is not None]
    return np.mean(known, axis=0) if len(known) == len(members) else None
