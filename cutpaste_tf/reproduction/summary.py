"""Cells of our tables: means over seeds with their errors, beside the paper's.

Over seeds: mean and standard error (ddof 1); an ensemble's error comes from the jackknife. A group's value is the mean
over its categories, and its error is the mean of their errors, as in the paper. If only some of a group's categories
are requested, the paper's number beside it is the paper's mean over the same categories.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf.evaluation import metrics
from cutpaste_tf.files import read_csv
from cutpaste_tf.reproduction import published, tables
from cutpaste_tf.reproduction.plan import Request, metrics_of
from cutpaste_tf.reproduction.published import Published
from cutpaste_tf.reproduction.tables import CATEGORIES, Column

_NORMAL_95 = 1.96
_PAPER_SEEDS = 5  # in an ensemble


class Categories(NamedTuple):
    """The categories of a mean: how many it includes, how many were requested, and how many the paper's includes."""

    there: int
    requested: int
    whole: int


class Ours(NamedTuple):
    """One of our numbers.

    Attributes:
        mean: the mean in percent.
        standard_error: None with one seed.
        seeds: number of seeds it includes.
        requested: number of seeds it should include.
        categories: the categories it is the mean of.
        random: whether another seed gives another number, so that a comparison needs an error.
    """

    mean: float
    standard_error: float | None
    seeds: int
    requested: int
    categories: Categories = Categories(1, 1, 1)
    random: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether it includes every requested seed and category."""
        return self.seeds >= self.requested and self.categories.there == self.categories.requested


class Cell(NamedTuple):
    """A cell of a table: our number, if there is one yet, and the paper's, if it has one."""

    ours: Ours | None
    paper: Published | None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in percent, if both are for the same method and categories."""
        if self.ours is None or self.paper is None or self.paper.source:
            return None
        there, _, whole = self.ours.categories
        return self.ours.mean - self.paper.auc if there == (self.paper.same or whole) else None

    def verdict(self, scale: str) -> str:
        """The result of the comparison in a word or two."""
        if self.ours is None:
            return "not yet"
        if self.paper is None:
            there, _, whole = self.ours.categories
            return "not in the paper" if there == whole else f"paper: all {whole} only"
        if self.paper.source:
            return f"{self.paper.source}'s, not like for like"
        if not self.ours.is_whole or self.difference is None:
            return "not yet whole"
        if scale != "paper":
            return "other schedule"
        if self.ours.standard_error is None and self.ours.random:
            return "no error"
        # The paper rounds to a tenth.
        joint = math.hypot(self.ours.standard_error or 0, self.paper.standard_error or 0)
        if abs(self.difference) <= _NORMAL_95 * joint + 0.05:
            return "within"
        return "above" if self.difference > 0 else "below"


class Table(NamedTuple):
    """Our version of one of the paper's tables.

    Attributes:
        name: name of its files.
        title: its heading.
        rows, columns: names.
        cells: by (row, column).
    """

    name: str
    title: str
    rows: list[str]
    columns: list[str]
    cells: dict[tuple[str, str], Cell]


def summarize(number: int | str, request: Request) -> Table:
    """A table's requested rows and columns, with the results so far."""
    columns = request.columns_of(number)
    if any(column.row for column in columns.values()):
        rows, names, cells = _by_model(number, columns, request)
    else:
        rows, names, cells = _by_category(number, columns, request)
    return Table(tables.name(number), tables.title(number), rows, names, cells)


_Cells = tuple[list[str], list[str], dict[tuple[str, str], Cell]]


def _by_category(number: int | str, columns: Mapping[str, Column], request: Request) -> _Cells:
    """Rows are categories, then their groups."""
    paper, categories = published.table(number), request.categories_of(number)
    groups = {
        group: [member for member in members if member in categories]
        for group, members in tables.groups(number).items()
    }
    groups = {group: members for group, members in groups.items() if members}
    cells = {}
    for name, column in columns.items():
        each = {category: _of_seeds(column, category, request) for category in categories}
        for category, ours in each.items():
            cells[category, name] = Cell(ours, paper.get((category, name)))
        for group, members in groups.items():
            there = {member: ours for member in members if (ours := each[member]) is not None}
            count = Categories(len(there), len(members), len(tables.groups(number)[group]))
            theirs = paper.get((group, name))
            if 0 < count.there < count.whole and not (theirs and theirs.source):
                same = published.mean([paper.get((member, name)) for member in there])
                theirs = same or (theirs if count.requested == count.whole else None)
            cells[group, name] = Cell(_mean([*there.values()], count), theirs)
    return [*categories, *groups], [*columns], cells


def _by_model(number: int | str, columns: Mapping[str, Column], request: Request) -> _Cells:
    """Rows are models; columns are shapes and their average; each value is the mean over the categories (Table 6)."""
    paper, requested = published.table(number), request.categories
    whole = (
        len(CATEGORIES) if set(requested) <= set(CATEGORIES) else len(requested)
    )  # with other categories there is no mean in the paper
    shapes = list(dict.fromkeys(name.split(" ")[1] for name in columns))
    models = list(dict.fromkeys(column.row for column in columns.values()))
    cells = {}
    for name, column in columns.items():
        there = [result for category in requested if (result := _of_seeds(column, category, request)) is not None]
        key = column.row, name.split(" ")[1]
        ours = _mean(there, Categories(len(there), len(requested), whole))
        cells[key] = Cell(ours, paper.get(key) if set(requested) == set(CATEGORIES) else None)
    for model in models:
        row = [cells[model, shape] for shape in shapes if (model, shape) in cells]
        there = [cell.ours for cell in row if cell.ours is not None]
        every = _mean(there, min(result.categories for result in there)) if len(there) == len(row) else None
        is_papers = len(shapes) == len(tables.SYNTHETIC) and all(cell.paper for cell in row)
        cells[model, "average"] = Cell(every, paper.get((model, "average")) if is_papers else None)
    return models, [*shapes, "average"], cells


def _of_seeds(column: Column, category: str, request: Request) -> Ours | None:
    """Our number in a category's cell."""
    run, requested = request.run(column, category, 0), len(request.seeds_of(column))
    folders = [
        request.output_dir / "runs" / run._replace(seed=seed).name / column.folder for seed in request.seeds_of(column)
    ]
    there = {folder: values for folder in folders if (values := metrics_of(folder)) is not None}
    if column.ensemble:
        return _ensemble([*there]) if len(there) == requested else None
    values = [stored[column.metric] for stored in there.values() if stored.get(column.metric) is not None]
    if not values:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Ours(statistics.fmean(values), error, len(values), requested, random=column.random)


def _ensemble(folders: Sequence[Path]) -> Ours | None:
    """Image AUROC for the mean of several runs' log densities, with the jackknife error over the runs."""
    scores: list[dict[str, float]] = []
    labels: dict[str, int] = {}
    for folder in folders:
        rows = read_csv(folder / "scores.csv")
        scores.append({row["path"]: float(row["score"]) for row in rows})
        labels |= {row["path"]: int(row["label"] or -1) for row in rows}
    every = np.array([[member[path] for path in labels] for member in scores])
    truth, count = np.array([*labels.values()]), len(folders)
    auroc = metrics.auroc(truth, every.mean(axis=0))  # scores are negative log densities
    if auroc is None:
        return None
    error = None
    if count > 1:
        without = [metrics.auroc(truth, np.delete(every, index, axis=0).mean(axis=0)) for index in range(count)]
        error = math.sqrt((count - 1) * np.var(np.array(without, float)))  # (n - 1) / n times the sum of squares
    return Ours(auroc, error, count, max(count, _PAPER_SEEDS))


def _mean(values: Sequence[Ours], categories: Categories) -> Ours | None:
    """The mean of cells, and of their errors."""
    if not values:
        return None
    errors = [value.standard_error for value in values if value.standard_error is not None]
    return Ours(
        statistics.fmean(value.mean for value in values),
        statistics.fmean(errors) if len(errors) == len(values) else None,
        min(value.seeds for value in values),
        max(value.requested for value in values),
        categories,
        random=values[0].random,
    )
