"""The commands, with the built-in data sets: `train_main.py` and `eval_main.py`, or what `pip install .` puts in the
path as `cutpaste-train` and `cutpaste-eval`, where this folder is `cutpaste_tf.data`.

Each command defines flags of its own, so that one process loads one of them.
"""

import sys
from pathlib import Path

from . import demo


def train() -> None:
    """Trains a detector."""
    from cutpaste_tf.cli import train as command

    command.run(demo.locate)


def evaluate() -> None:
    """Evaluates a detector."""
    from cutpaste_tf.cli import evaluate as command

    command.run(demo.locate)


def predict() -> None:
    """Scores images with a detector, row by row."""
    from cutpaste_tf.cli import predict as command

    command.run()


def export() -> None:
    """Exports a detector."""
    from cutpaste_tf.cli import export as command

    command.run(demo.locate)


def reproduce() -> None:
    """Reproduces tables of the paper."""
    from cutpaste_tf.cli import reproduce as command
    from cutpaste_tf.reproduction.runner import Commands

    command.run(demo.locate, Commands(*map(_words, ("train", "evaluate", "reproduce"))))


def _words(name: str) -> tuple[str, ...]:
    """How another process starts one of these commands, wherever it runs."""
    root = str(Path(__file__).resolve().parent.parent) if __name__ == "data.console" else ""
    code = f"import sys; sys.path.insert(0, {root!r}); " if root else ""
    return sys.executable, "-c", f"{code}from {__name__} import {name}; {name}()"


def draw() -> None:
    """Draws the built-in data sets."""
    sys.exit(demo.main(sys.argv[1:]))


def prepare_mvtec_ad() -> None:
    """Prepares MVTec AD for TensorFlow Datasets."""
    from . import mvtec_ad

    mvtec_ad.run()
