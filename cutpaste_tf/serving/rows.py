"""Rows of results, written one by one as CSV or JSON lines."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from cutpaste_tf.detection.prediction import Prediction
from cutpaste_tf.images import folders

FORMATS = ("csv", "jsonl")


def fields(prediction: Prediction) -> dict[str, Any]:
    """What is known of an image, by name, for JSON: score; p_value and decision; boxes."""
    result: dict[str, Any] = {"score": prediction.score}
    if prediction.p_value is not None:
        result |= {"p_value": prediction.p_value, "decision": prediction.decision}
    if prediction.boxes is not None:
        result["boxes"] = [box._asdict() for box in prediction.boxes]
    return result


class Rows:
    """Writes rows in one format.

    Args:
        output: where rows are written.
        format: one of FORMATS: `csv` has all columns and a header; `jsonl` has only what there is for each image.
        columns: all possible columns.
    """

    def __init__(self, output: TextIO, format: str, columns: Sequence[str]):
        self._output = output
        self._table = csv.DictWriter(output, columns, lineterminator="\n") if format == "csv" else None
        self._is_begun = self._table is None

    def write(self, path: Path, prediction: Prediction | None, written: Mapping[str, Any], error: str = "") -> None:
        """Writes the row of an image.

        Args:
            path: path of the image.
            prediction: prediction for the image; None if it could not be read.
            written: further columns.
            error: why it could not be read.
        """
        row: dict[str, Any] = {"path": folders.printable(str(path))}
        if prediction is None:
            row["error"] = error
        else:
            row |= fields(prediction)
        row |= {name: folders.printable(value) if isinstance(value, str) else value for name, value in written.items()}
        self._begin()
        if self._table is None:
            self._output.write(json.dumps(row, ensure_ascii=False) + "\n")
            return
        row |= {name: f"{row[name]:.6f}" for name in ("score", "p_value") if name in row}
        row |= {"boxes": json.dumps(row["boxes"])} if "boxes" in row else {}
        self._table.writerow(row)

    def flush(self) -> None:
        """Flushes the output, with at least the header."""
        self._begin()
        self._output.flush()

    def _begin(self) -> None:
        if not self._is_begun and self._table:
            self._table.writeheader()
        self._is_begun = True
