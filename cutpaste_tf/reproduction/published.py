"""The numbers that the paper publishes, as data: never ours, and never mixed with ours."""

import csv
import functools
from pathlib import Path
from typing import NamedTuple

from cutpaste_tf.reproduction.tables import CIFAR10

_FOLDER = Path(__file__).parent / "published"


class Published(NamedTuple):
    """A number of the paper.

    Attributes:
        auc: in percent.
        standard_error: of the mean over five seeds; None where the paper gives none.
    """

    auc: float
    standard_error: float | None


@functools.cache
def table(number: int | str) -> dict[tuple[str, str], Published]:
    """A table of the paper: (row, column) -> number; rows as `carpet`, `texture`, `all`, columns as `cutpaste_3way`."""
    if number == CIFAR10:
        in_text = [row for row in _read(_FOLDER / "in_text.csv") if row[1].startswith("CIFAR-10")]
        return {("all", method): Published(float(auc), None) for _, _, method, auc in in_text}
    (path,) = _FOLDER.glob(f"table{number}_*.csv")
    found = {
        (_ROWS.get(row, row), column): Published(float(auc), float(error) if error else None)
        for row, column, auc, error in _read(path)
    }
    if number == 2:  # what Section 4.2 says beside it
        (gradcam,) = [auc for *_, method, auc in _read(_FOLDER / "in_text.csv") if method.startswith("gradcam")]
        found["all", "gradcam"] = Published(float(gradcam), None)
    return found


def _read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


# One name for the rows of means, which the paper's tables call differently.
_ROWS = {"texture_average": "texture", "object_average": "object", "average": "all"}
