"""The cost of a plan: hours of training and disk space."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cutpaste_tf import runs
from cutpaste_tf.detection import dense
from cutpaste_tf.files import read_csv
from cutpaste_tf.reproduction import speed
from cutpaste_tf.reproduction.plan import Request, Work
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config

# Bytes of a run: its weights (twice during training), features, scores, plots and heat maps.
_SIZES = {"efficientnet_b4": 250e6}
_SIZE = 60e6  # bytes of any other run, with a ResNet-18
_DIMENSIONS = 512  # of a ResNet-18's pooled features
Kind = str  # a kind of runs that train at the same speed, in words


def described(work: Sequence[Work], request: Request) -> Iterator[str]:
    """Lines about the plan: what is done, what is left, and how long it takes, from logged or measured speeds."""
    root = request.output_dir
    left: dict[Kind, int] = {}  # views to train on
    evaluations, finished = 0, 0
    for task in work:
        config, place = task.run.config(request.data_root), root / "runs" / task.run.name
        steps = config.schedule.total_steps
        missing, is_trained = len(task.missing(root)), runs.is_complete(place)
        is_done = is_trained and not missing
        finished += is_done
        evaluations += missing
        if not is_trained and steps:
            to_go = steps - min(steps, int(_last_logged(place, "step")))
            left[_kind(config)] = left.get(_kind(config), 0) + to_go * config.schedule.batch_size
        yield f"{'done' if is_done else 'to do':6} {task.run.name}   {steps} steps, {len(task.evaluations)} evaluations"
    yield f"{finished} of {len(work)} runs are done."
    yield from _hours(left, work, request)
    if evaluations:
        yield f"Also left, not included above: {evaluations} evaluations."


def _hours(left: Mapping[Kind, int], work: Sequence[Work], request: Request) -> Iterator[str]:
    """Lines about the time for the remaining training and the speeds it is based on."""
    speeds = {
        kind: (views, "as in the last run here") for kind, views in _speeds(work, request).items() if kind in left
    }
    if unknown := sorted(left.keys() - speeds, key=lambda kind: -left[kind]):
        yield f"Measuring the speed of {len(unknown)} kinds of runs, for at most {speed.SECONDS:.0f} s."
        of_kind = {_kind(task.run.config(request.data_root)): dict(task.run.settings) for task in reversed(work)}
        measured = speed.measure([of_kind[kind] for kind in unknown])
        for index, (views, batch) in measured.items():
            speeds[unknown[index]] = views, f"measured just now in steps of {batch}"
    if speeds:
        hours = sum(left[kind] / views for kind, (views, _) in speeds.items()) / 3600
        yield f"Left: {hours:.1f} hours of training, one run at a time:"
    for kind, (views, how) in speeds.items():
        yield f"  {kind}: {left[kind] / views / 3600:.1f} hours at {views:.1f} views/s, {how}."
    for kind in unknown:
        if kind not in speeds:
            yield f"  {kind}: {left[kind]} views; their speed could not be measured in that time."


def size(work: Sequence[Work], request: Request, images: Mapping[str, int]) -> float:
    """Approximate bytes that the remaining runs need.

    Args:
        work: the work of the plan.
        request: the request the plan is for.
        images: number of training images of each category.
    """
    return sum(
        _size(task.run.config(request.data_root), images[task.run.category])
        for task in work
        if not task.is_done(request.output_dir)
    )


def _size(config: Config, images: int) -> float:
    """Bytes of a run; with a density for each location, its factors dominate."""
    total = _SIZES.get(config.network.backbone, _SIZE)
    if config.patch_size and config.density.density_mode == "per_location":
        places = dense.locations(config.data.size, config.features)
        total += places * min(images, _DIMENSIONS) * _DIMENSIONS * (4 if config.density.l2_normalize else 8)
    return total


def _kind(config: Config) -> Kind:
    network = config.network
    return f"{network.backbone}, {sizes.as_flag(config.view_size)} px, {network.stem} stem, {network.precision}"


def _speeds(work: Sequence[Work], request: Request) -> dict[Kind, float]:
    """Training views/s in the last logged epoch of each kind of run."""
    speeds = {}
    for task in work:
        if views := _last_logged(request.output_dir / "runs" / task.run.name, "images_per_second"):
            speeds[_kind(task.run.config(request.data_root))] = views
    return speeds


def _last_logged(place: Path, name: str) -> float:
    """The last value in a run's log; 0 if there is none yet."""
    try:
        return float(read_csv(place / "train_log.csv")[-1][name])
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return 0.0
