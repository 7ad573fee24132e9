"""From tables to runs: each run appears once, with all the evaluations that the tables need."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cutpaste_tf import json_files, runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.reproduction.tables import CIFAR10, PROPORTIONAL, SCALES, TABLES, Column, groups
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import default_image_size


class Request(NamedTuple):
    """What to reproduce.

    Attributes:
        tables: keys of `TABLES`.
        columns: columns of these tables; empty for all.
        categories: folders in `data_root`, for the tables on MVTec AD.
        seeds: number of seeds.
        scale: one of SCALES.
        data_root: folder that holds the categories.
        weights: file with EfficientNet's ImageNet weights; empty to download them.
        output_dir: where runs and tables go.
        drawn: columns whose runs with seed 0 are needed to draw figures.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets, such as MNIST's digits; empty for its default.
        precision: arithmetic of every run, as in train_main.py.
    """

    tables: tuple[int | str, ...]
    columns: tuple[str, ...]
    categories: tuple[str, ...]
    seeds: int
    scale: str
    data_root: str
    weights: str
    output_dir: Path
    drawn: tuple[Column, ...] = ()
    tfds_data_dir: str = ""
    precision: str = "float32"

    def columns_of(self, table: int | str) -> dict[str, Column]:
        """The requested columns of a table."""
        return {name: column for name, column in TABLES[table].items() if not self.columns or name in self.columns}

    def categories_of(self, table: int | str) -> tuple[str, ...]:
        """The categories of a table's rows."""
        return groups(table)["all"] if table == CIFAR10 else self.categories

    def seeds_of(self, column: Column) -> range:
        """The seeds of a column's runs."""
        return range(self.seeds if column.random else 1)

    def run(self, column: Column, category: str, seed: int) -> "Run":
        """A column's run for a category and a seed."""
        settings = self._settings(column, default_image_size(category))
        return Run(category, _without_defaults(tuple(sorted(settings.items()))), seed)

    def _settings(self, column: Column, image_size: int) -> dict[str, Any]:
        """A column's settings at the requested scale and precision."""
        scale = dict(SCALES[self.scale])
        if scale.get("image_size", 0) > image_size:  # nothing is enlarged
            del scale["image_size"], scale["stem"]
        if "weights" in column.settings:
            scale.pop("learning_rate", None)
        for name in PROPORTIONAL.keys() & scale & column.settings.keys():
            scale[name] = float(f"{scale[name] * column.settings[name] / PROPORTIONAL[name]:.6g}")
        if "epochs" in scale:
            is_trained = column.settings.get("epochs") != 0
            scale["epochs"] = max(1, round(scale["epochs"])) if is_trained else 0
            if is_trained and "weights" in column.settings:
                scale["head_epochs"] = 1
        settings = {**column.settings, **scale, "precision": self.precision}
        if self.weights and "weights" in settings:
            settings["weights"] = self.weights
        return settings


@functools.cache  # thousands of runs share a few dozen settings
def _without_defaults(settings: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    """The settings that make a difference, so that equal runs have equal settings."""
    complete = Config.of(**dict(settings)).resolved()
    return tuple((name, value) for name, value in settings if _without(dict(settings), name) != complete)


def _without(settings: Mapping[str, Any], name: str) -> Config | None:
    try:
        return Config.of(**{key: value for key, value in settings.items() if key != name}).resolved()
    except InputError:  # needed by another setting
        return None


class Run(NamedTuple):
    """A run, named after its settings, its category and its seed.

    Attributes:
        category: the category it is trained on.
        settings: (name, value), sorted, without defaults.
        seed: seed of the run.
    """

    category: str
    settings: tuple[tuple[str, Any], ...]
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder below `runs`; for a setting that is a file, only the file's name is used."""
        words = [f"{name}={Path(str(value)).name}" for name, value in self.settings]
        return f"{self.category}/{'+'.join(words) or 'default'}/seed{self.seed}"

    def data(self, data_root: str) -> str:
        """The data to train on: a category of the root, or a named set."""
        return self.category if sources.is_named(self.category) else f"{data_root}/{self.category}"

    def flags(self, data_root: str) -> list[str]:
        """Its flags for train_main.py."""
        settings = [f"--{name}={value}" for name, value in self.settings]
        return [f"--data={self.data(data_root)}", f"--seed={self.seed}", *settings]

    def config(self, data_root: str) -> Config:
        """Its configuration."""
        return Config.of(data=self.data(data_root), seed=self.seed, **dict(self.settings)).resolved()


class Work(NamedTuple):
    """A run and its evaluations.

    Attributes:
        run: the run to execute.
        evaluations: flags of eval_main.py by folder.
    """

    run: Run
    evaluations: dict[str, tuple[str, ...]]

    def is_done(self, root: Path) -> bool:
        """Whether the run and its evaluations exist."""
        return not self.missing(root) and runs.is_complete(root / "runs" / self.run.name)

    def missing(self, root: Path) -> list[str]:
        """The folders of evaluations that are missing or damaged."""
        place = root / "runs" / self.run.name
        return [folder for folder in self.evaluations if metrics_of(place / folder) is None]


def metrics_of(folder: Path) -> dict[str, Any] | None:
    """An evaluation's metrics.json; None if it is missing or truncated, as after a power cut."""
    try:
        metrics = json_files.read(folder / "metrics.json")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) else None


def plan(request: Request) -> list[Work]:
    """The work for a request, ordered by seed, so that every cell gets a value early.

    Raises:
        InputError: a column is unknown, or a combination of settings is not possible.
    """
    columns = {name for number in request.tables for name in TABLES[number]}
    if unknown := sorted(set(request.columns) - columns):
        raise InputError(f"--columns={','.join(unknown)} is unknown; these tables have {', '.join(sorted(columns))}.")
    by_run: dict[Run, dict[str, tuple[str, ...]]] = {}
    for seed in range(request.seeds):
        for number in request.tables:
            for column in request.columns_of(number).values():
                for category in request.categories_of(number):
                    if seed in request.seeds_of(column):
                        run = request.run(column, category, seed)
                        by_run.setdefault(run, {})[column.folder] = column.evaluation
    for column in request.drawn:
        for category in request.categories:
            by_run.setdefault(request.run(column, category, 0), {})
    return [Work(run, evaluations) for run, evaluations in by_run.items()]
