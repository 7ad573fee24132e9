"""Counts of trials and failures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cutpaste_tf.files import write_whole
from cutpaste_tf.progress import say


@dataclasses.dataclass
class Row:
    """One kind of fault.

    Attributes:
        kind: the chapter, such as `kills`.
        what: what was tried.
        trials: how often.
        failures: a line for each trial that failed.
        note: what else was measured.
    """

    kind: str
    what: str
    trials: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    note: str = ""

    def count(self, failure: str = "") -> None:
        """Counts a trial; `failure` says what went wrong, if anything."""
        self.trials += 1
        if failure:
            self.failures.append(failure)
            say(f"  FAILED {self.what}: {failure}")


class Tally:
    """The rows of a benchmark, written to FOLDER/faults.json after each one; rows of other kinds there are kept.

    Args:
        folder: to write to.
    """

    def __init__(self, folder: Path):
        self._path = folder / "faults.json"
        folder.mkdir(parents=True, exist_ok=True)
        stored: list[dict[str, Any]] = json.loads(self._path.read_text()) if self._path.is_file() else []
        self.rows = [Row(**values) for values in stored]

    def add(self, row: Row) -> None:
        """Adds a row, in place of an earlier one of that name."""
        self.rows = [other for other in self.rows if (other.kind, other.what) != (row.kind, row.what)] + [row]
        content = json.dumps([dataclasses.asdict(row) for row in self.rows], indent=1, ensure_ascii=True)
        write_whole(self._path, content.encode())
        say(f"{row.kind}: {row.what}: {row.trials} trials, {len(row.failures)} failures{row.note and '; ' + row.note}")

    def table(self) -> str:
        """The rows as a table in Markdown, and the totals."""
        lines = ["| Fault | Tried | Trials | Failures | |", "|---|---|---|---|---|"]
        for row in self.rows:
            lines.append(f"| {row.kind} | {row.what} | {row.trials} | {len(row.failures)} | {row.note} |")
        trials, failures = (
            sum(counts) for counts in ([r.trials for r in self.rows], [len(r.failures) for r in self.rows])
        )
        return "\n".join([*lines, f"| **All** | | **{trials}** | **{failures}** | |"])
