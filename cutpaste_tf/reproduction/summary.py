"""Cells of our tables: means over seeds with their errors, beside the paper's.

Over seeds: mean and standard error (ddof 1). A group's value is the mean over its categories, and its error the mean of
their errors, as in the paper.
"""

import csv
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cutpaste_tf.evaluation import metrics
from cutpaste_tf.reproduction import published, tables
from cutpaste_tf.reproduction.plan import Request, metrics_of
from cutpaste_tf.reproduction.published import Published
from cutpaste_tf.reproduction.tables import CATEGORIES, Column

_NORMAL_95 = 1.96
_PAPER_SEEDS = 5  # of an ensemble


class Ours(NamedTuple):
    """A number of ours.

    Attributes:
        mean: in percent.
        standard_error: None with one seed.
        seeds: number of seeds, of those asked for and of others that are there.
        asked: number of seeds asked for.
        categories: (number that are in it, number that should be); (1, 1) for a category's own.
        random: whether another seed gives another number, so that it needs an error to be compared.
    """

    mean: float
    standard_error: float | None
    seeds: int
    asked: int
    categories: tuple[int, int] = (1, 1)
    random: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether every seed and every category is in it."""
        return self.seeds >= self.asked and self.categories[0] == self.categories[1]


class Cell(NamedTuple):
    """A cell of a table: ours, if there is any yet, and the paper's, if it has it."""

    ours: Ours | None
    paper: Published | None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in percent."""
        return None if self.ours is None or self.paper is None else self.ours.mean - self.paper.auc

    def verdict(self, scale: str) -> str:
        """What the comparison says, in a word or two."""
        if self.ours is None:
            return "not yet"
        if self.paper is None:
            return "not in the paper"
        if not self.ours.is_whole:
            return "not yet whole"
        if scale != "paper":
            return "not the paper's schedule"
        difference = self.ours.mean - self.paper.auc
        if self.ours.standard_error is None and self.ours.random:
            return "no error"
        # The paper rounds to a tenth.
        joint = math.hypot(self.ours.standard_error or 0, self.paper.standard_error or 0)
        if abs(difference) <= _NORMAL_95 * joint + 0.05:
            return "within"
        return "above" if difference > 0 else "below"


class Table(NamedTuple):
    """One of the paper's tables, ours.

    Attributes:
        name: of its files.
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
    """A table of what is there so far."""
    paper, columns = published.table(number), request.columns_of(number)
    cells: dict[tuple[str, str], Cell] = {}
    if any(column.row for column in columns.values()):
        shapes = dict.fromkeys(name.split(" ")[1] for name in columns)
        models = dict.fromkeys(column.row for column in columns.values())
        for name, column in columns.items():
            shape = name.split(" ")[1]
            each = {category: _of_seeds(column, category, request) for category in request.categories}
            papers = [each[category] for category in CATEGORIES if category in each]
            if any(papers) or not any(each.values()):
                cells[column.row, shape] = Cell(_mean(papers, whole=len(CATEGORIES)), paper.get((column.row, shape)))
            else:  # of own categories alone
                cells[column.row, shape] = Cell(_mean([one for one in each.values() if one is not None]), None)
        for model in models:
            every = [cells[model, shape].ours for shape in shapes if (model, shape) in cells]
            is_papers = all(cells[model, shape].paper for shape in shapes if (model, shape) in cells)
            average = _mean(every, same=True)
            cells[model, "average"] = Cell(average, paper.get((model, "average")) if is_papers else None)
        return Table(tables.name(number), tables.title(number), [*models], [*shapes, "average"], cells)
    categories, whole = request.categories_of(number), tables.groups(number)
    groups = {
        name: [one for one in members if one in categories]
        for name, members in whole.items()
        if any(one in categories for one in members)
    }
    for name, column in columns.items():
        of_categories = {category: _of_seeds(column, category, request) for category in categories}
        for category, ours in of_categories.items():
            cells[category, name] = Cell(ours, paper.get((category, name)))
        for group, members in groups.items():
            mean = _mean([of_categories[member] for member in members], whole=len(whole[group]))
            cells[group, name] = Cell(mean, paper.get((group, name)))
    return Table(tables.name(number), tables.title(number), [*categories, *groups], [*columns], cells)


def _of_seeds(column: Column, category: str, request: Request) -> Ours | None:
    """A category's cell."""
    run, asked = request.run(column, category, 0), len(request.seeds_of(column))

    def place(seed: int) -> Path:
        return request.output_dir / "runs" / run._replace(seed=seed).name

    seeds = asked
    while column.random and place(seeds).is_dir():
        seeds += 1  # of another command, that asked for more
    folders = [place(seed) / column.folder for seed in range(seeds)]
    there = {folder: found for folder in folders if (found := metrics_of(folder)) is not None}
    if column.ensemble:
        score = _ensemble([*there]) if len(there) >= asked else None
        return None if score is None else Ours(score, None, len(there), max(asked, _PAPER_SEEDS), random=False)
    values = [found[column.metric] for found in there.values() if found.get(column.metric) is not None]
    if not values:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Ours(statistics.fmean(values), error, len(values), asked, random=column.random)


def _ensemble(folders: Sequence[Path]) -> float | None:
    """Image AUROC of the mean of several runs' log densities: scores are their negatives."""
    scores: dict[str, list[float]] = {}
    labels: dict[str, int] = {}
    for folder in folders:
        with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores.setdefault(row["path"], []).append(float(row["score"]))
                labels[row["path"]] = int(row["label"] or -1)
    means = np.array([statistics.fmean(values) for values in scores.values()])
    return metrics.auroc(np.array([*labels.values()]), means)


def _mean(values: Sequence[Ours | None], *, whole: int = 0, same: bool = False) -> Ours | None:
    """The mean of cells, and of their errors.

    Args:
        values: of categories, or of columns.
        whole: number of categories that should be in it; 0: as many as there are values.
        same: whether the values are of the same categories.
    """
    there = [value for value in values if value is not None]
    if not there:
        return None
    errors = [value.standard_error for value in there if value.standard_error is not None]
    return Ours(
        statistics.fmean(value.mean for value in there),
        statistics.fmean(errors) if len(errors) == len(there) else None,
        min(value.seeds for value in there),
        max(value.asked for value in there),
        min(value.categories for value in there)
        if same and len(there) == len(values)
        else (len(there), whole or len(values)),
        random=there[0].random,
    )
