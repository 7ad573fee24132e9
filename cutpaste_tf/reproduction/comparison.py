"""The published hyperparameters beside ours."""

import re

from cutpaste_tf.config.config import Config
from cutpaste_tf.settings import leaves

_IN_THE_PAPER = re.compile(r"Section|Table|Figure|Eq\.|\bA\.\d")


def compared_settings() -> list[str]:
    """A line for each setting: name, the paper's value, ours by default, and whose choice it is.

    What is left open is filled in as for an image model with a ResNet-18.
    """
    values = Config.of(data="category").flat()
    rows = [("setting", "paper", "ours", "from")]
    for field, _ in leaves(Config):
        if field.name in ("data", "test_data", "seed"):
            continue
        source, ours = field.metadata["source"], str(values[field.name]) or "-"
        named = field.metadata["paper"]
        paper = named if named else ours if _IN_THE_PAPER.search(source) else "silent"
        rows.append((field.name, paper, ours, source or "ours"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows]
