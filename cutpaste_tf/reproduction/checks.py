"""Checks before the first run: every category can be used for training and testing, and the disk has room."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cutpaste_tf import files
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL, Item
from cutpaste_tf.reproduction import costs
from cutpaste_tf.reproduction.plan import Request, Run, Work
from cutpaste_tf.settings.config import Config


class Seen(NamedTuple):
    """A category on this machine.

    Attributes:
        place: its folder, or the name of the set.
        images: number of its training images.
        listed: a hash of the names and sizes of its training and test images.
    """

    place: str
    images: int
    listed: str


def categories(request: Request, *, is_drawn: bool) -> dict[str, Seen]:
    """Checks that every category can be used for training and testing.

    Raises:
        InputError: one of them cannot be.
    """
    seen = {}
    metrics: dict[str, set[str]] = {category: set() for category in (request.categories if is_drawn else ())}
    for table in request.tables:
        for category in request.categories_of(table):
            required = metrics.setdefault(category, set())
            required.update(column.metric for column in request.columns_of(table).values())
    for category, required in metrics.items():
        data = Run(category, (), 0).data(request.data_root)
        if not sources.is_named(data) and not sources.folder(data).is_dir():
            raise InputError(
                f"--data_root={request.data_root} has no category {category}: expected a folder {data}; give the "
                "existing categories as --categories."
            )
        settings = Config.of(data=data).data
        trained = sources.list_train(data, settings, tfds_data_dir=request.tfds_data_dir)
        tests = sources.list_test(data, settings, tfds_data_dir=request.tfds_data_dir)
        labels = {item.label for item in tests}
        if not {NORMAL, ANOMALOUS} <= labels:
            raise InputError(
                f"{data} has no {'normal' if NORMAL not in labels else 'anomalous'} test images, so no AUROC can be "
                "computed; give other --categories."
            )
        if "pixel_auroc" in required and not any(item.masks for item in tests):
            raise InputError(
                f"{data} has no masks (ground_truth/DEFECT/NAME_mask.png), so the pixel AUROC for Table 2 cannot be "
                "computed; give other --categories or --table."
            )
        seen[category] = Seen(data, len(trained), _listed([*trained, *tests]))
    return seen


def weights(work: Sequence[Work], request: Request) -> None:
    """Checks that the file with ImageNet weights exists, if a run starts from it.

    Raises:
        InputError: it does not exist.
    """
    begins = any(dict(task.run.settings).get("weights") == request.weights for task in work)
    if request.weights and begins and not Path(request.weights).expanduser().is_file():
        raise InputError(f"--weights={request.weights} is not a file; omit --weights to download the weights.")


def space(work: Sequence[Work], request: Request, seen: Mapping[str, Seen]) -> None:
    """Checks that the disk has room for the runs.

    Raises:
        InputError: it does not.
    """
    folder = request.output_dir.absolute()
    runs_left = sum(not task.is_done(request.output_dir) for task in work)
    needed = costs.size(work, request, {category: data.images for category, data in seen.items()})
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    if free < needed:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB left; {runs_left} runs take about {needed / 1e9:.1f} GB. "
            "Make room, give another --output_dir, or request fewer --columns, --categories or --seeds."
        )


def same_data(request: Request, seen: Mapping[str, Seen]) -> None:
    """Checks that the folder's runs use the same images, wherever they are.

    Raises:
        InputError: they do not.
    """
    for category, data in seen.items():
        path = _record(request, category)
        if path.is_file() and path.read_text(encoding="utf-8") != data.listed:
            raise InputError(
                f"{request.output_dir} holds runs on other images of {category}, judging by names and sizes; give "
                f"another --output_dir, or delete {path} if the images are the same."
            )


def record(request: Request, seen: Mapping[str, Seen]) -> None:
    """Records which images the folder's runs use."""
    for category, data in seen.items():
        path = _record(request, category)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, data.listed.encode())


def _record(request: Request, category: str) -> Path:
    return request.output_dir / "data" / f"{category.replace('/', '+')}.sha256"


def _listed(items: Sequence[Item]) -> str:
    sha = hashlib.sha256()
    for item in items:
        size = len(item.image) if isinstance(item.image, bytes) else item.image.stat().st_size
        sha.update(f"{item.path} {item.label} {size}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()
