"""What the work of a plan takes: hours of training, and room on the disk."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf import runs
from cutpaste_tf.detection import dense
from cutpaste_tf.reproduction.plan import Request, Work
from cutpaste_tf.settings.config import Config

# Bytes of a run: its weights, twice while it is trained on; features, scores, pictures.
_SIZES = {"efficientnet_b4": 250e6}
_SIZE = 60e6  # of any other, a ResNet-18
_DIMENSIONS = 512  # of a ResNet-18's pooled features


def described(work: Sequence[Work], request: Request) -> list[str]:
    """The plan in lines: what is done, what is left, and what that takes at the speeds measured so far."""
    root = request.output_dir
    lines, left, unknown, evaluations, done = [], 0.0, 0, 0, 0
    speeds = _speeds(work, request)
    for one in work:
        config, place = one.run.config(request.data_root), root / "runs" / one.run.name
        steps = config.schedule.total_steps
        missing, is_trained = len(one.missing(root)), runs.is_complete(place)
        is_done = is_trained and not missing
        done += is_done
        evaluations += missing
        if not is_trained:
            to_go = steps - min(steps, int(_last_logged(place, "step")))
            speed = speeds.get(_kind(config))
            left += to_go * config.schedule.batch_size / speed if speed else 0
            unknown += 0 if speed else to_go
        lines.append(
            f"{'done' if is_done else 'to do':6} {one.run.name}   {steps} steps, {len(one.evaluations)} evaluations"
        )
    lines.append(f"{done} of {len(work)} runs are done.")
    if left:
        lines.append(
            f"Left, where the speed has been measured: {left / 3600:.1f} hours of training, one run at a time, at the "
            "speeds that the runs here had."
        )
    if unknown:
        lines.append(f"Left, of kinds of runs whose speed has not been measured here yet: {unknown} steps.")
    if evaluations:
        lines.append(f"Left, and not in these: {evaluations} evaluations.")
    return lines


def size(work: Sequence[Work], request: Request, images: Mapping[str, int]) -> float:
    """Bytes that the runs which are not done will take, roughly.

    Args:
        work: of the plan.
        request: that it is of.
        images: number of training images of each category.
    """
    return sum(
        _size(one.run.config(request.data_root), images[one.run.category])
        for one in work
        if not one.is_done(request.output_dir)
    )


def _size(config: Config, images: int) -> float:
    """Of a run; a density for each location has so many factors that nothing else counts."""
    whole = _SIZES.get(config.network.backbone, _SIZE)
    if config.patch_size and config.density.density_mode == "per_location":
        places = dense.places(config.data.image_size, config.features) ** 2
        whole += places * min(images, _DIMENSIONS) * _DIMENSIONS * (4 if config.density.l2_normalize else 8)
    return whole


def _kind(config: Config) -> tuple[Any, ...]:
    return config.network.backbone, config.view_size, config.network.stem, config.network.precision


def _speeds(work: Sequence[Work], request: Request) -> dict[tuple[Any, ...], float]:
    """Images/s of training, of the last epoch that was logged of each kind of run."""
    found = {}
    for one in work:
        if speed := _last_logged(request.output_dir / "runs" / one.run.name, "images_per_second"):
            found[_kind(one.run.config(request.data_root))] = speed
    return found


def _last_logged(place: Path, name: str) -> float:
    """What a run's log says last; 0 where it says nothing yet."""
    try:
        with (place / "train_log.csv").open(newline="", encoding="utf-8") as file:
            return float([*csv.DictReader(file)][-1][name])
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return 0.0
