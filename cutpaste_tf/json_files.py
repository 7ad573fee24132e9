"""Reads JSON files."""

import json
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file, or it is not a regular file.
        OSError: it cannot be read.
        ValueError: it is not JSON in UTF-8, or is nested too deeply.
    """
    if not path.is_file():  # a pipe would wait for its writer
        raise FileNotFoundError(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
