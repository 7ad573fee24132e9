"""The numbers published in the paper, kept separate from ours."""

import functools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cutpaste_tf.files import read_csv
from cutpaste_tf.reproduction.tables import CIFAR10

_FOLDER = Path(__file__).parent / "published"
_OWN = "paper"  # source of numbers for the paper's own method


class Published(NamedTuple):
    """A number in the paper.

    Attributes:
        auc: AUC in percent.
        standard_error: standard error of the mean over five seeds; None if the paper gives none.
        source: source of another method, such as `[52]`; empty: the paper's method.
        same: how many published numbers it is the mean of, see `mean`; 0: the number itself is published.
    """

    auc: float
    standard_error: float | None
    source: str = ""
    same: int = 0


def mean(numbers: Sequence[Published | None]) -> Published | None:
    """The mean of published numbers and of their errors, as in the paper; None if any number is missing."""
    there = [number for number in numbers if number is not None]
    if not there or len(there) < len(numbers):
        return None
    errors = [number.standard_error for number in there if number.standard_error is not None]
    error = statistics.fmean(errors) if len(errors) == len(there) else None
    return Published(statistics.fmean(number.auc for number in there), error, same=len(there))


@functools.cache
def table(number: int | str) -> dict[tuple[str, str], Published]:
    """A table of the paper: (row, column) -> number; rows like `carpet`, `texture` or `all`, columns like `scar`."""
    if number == CIFAR10:
        return {
            ("all", method): value for (quantity, method), value in _in_text().items() if quantity.startswith("CIFAR")
        }
    (path,) = _FOLDER.glob(f"table{number}_*.csv")
    numbers = {}
    for row in read_csv(path):
        category, error = row["model" if number == 6 else "category"], row["standard_error"]
        numbers[_ROWS.get(category, category), row["method"]] = Published(
            float(row["auc"]), float(error) if error else None
        )
    if number == 2:  # Section 4.2 gives this number in the text
        (numbers["all", "gradcam"],) = [
            value for (_, method), value in _in_text().items() if method.startswith("gradcam")
        ]
    return numbers


def _in_text() -> dict[tuple[str, str], Published]:
    """(quantity, method) -> the number in the paper's text."""
    return {
        (row["quantity"], row["method"]): Published(
            float(row["value"]), None, "" if row["source"] == _OWN else row["source"]
        )
        for row in read_csv(_FOLDER / "in_text.csv")
    }


# The same names for the rows of means in all tables; the paper's tables use different names.
_ROWS = {"texture_average": "texture", "object_average": "object", "average": "all"}
