"""How long-running work shows its progress: a bar in a terminal, an occasional line in a log, or nothing."""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

Report = Callable[[str], object]
"""Shows a line to the user: `say`, `say_aside`, `no_report`, or a function of the calling program."""
T = TypeVar("T")
# The commands in a checkout; when installed, they are called cutpaste-NAME.
_MAIN = re.compile(r"(?:\bpython )?\b(train|eval|predict|export|serve|reproduce)_main\.py\b")
_PREPARE = "python -m data.mvtec_ad"
_IS_CHECKOUT = (Path(__file__).resolve().parent.parent / "train_main.py").is_file()
_PAUSE = 30.0  # seconds between lines in a log
_quiet = False
_last = ""


def as_started(text: str) -> str:
    """The text with commands as the user runs them: `python train_main.py` in a checkout, or else `cutpaste-train`."""
    if _IS_CHECKOUT and not Path(sys.argv[0]).name.startswith("cutpaste-"):
        return text
    return _MAIN.sub(r"cutpaste-\1", text).replace(_PREPARE, "cutpaste-prepare-mvtec-ad")


def say(line: str) -> None:
    """Shows a line at once, above the bar if there is one."""
    line = _noted(line)
    if not _quiet:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
    elif line.startswith("Warning:"):
        print(line, file=sys.stderr, flush=True)


def say_aside(line: str) -> None:
    """Shows a line on standard error, for commands whose standard output is for results."""
    line = _noted(line)
    if not _quiet or line.startswith("Warning:"):
        print(line, file=sys.stderr, flush=True)


def last_line() -> str:
    """The last line that was reported, whether or not it was shown: what the process is doing."""
    return _last


def _noted(line: str) -> str:
    global _last
    _last = as_started(line)
    return _last


def no_report(line: str) -> None:
    """Shows nothing."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Makes `say` show only warnings, on standard error, and no bars."""
    global _quiet
    _quiet, before = True, _quiet
    try:
        yield
    finally:
        _quiet = before


def shows_bars(report: Report = say) -> bool:
    """Whether reports go to a terminal."""
    return report is say and not _quiet and sys.stderr.isatty()


def bar(total: int, what: str, **options: Any) -> "tqdm[Any]":
    """A progress bar that is cleared when its work is done.

    Args:
        total: number of units of work.
        what: the work.
        options: further arguments of tqdm.
    """
    return tqdm(total=total, desc=what, leave=False, dynamic_ncols=True, file=sys.stderr, **options)


def track(items: Iterable[T], total: int, what: str, report: Report) -> Iterator[T]:
    """Yields the items, with a bar in a terminal, or else with a line every half minute.

    Args:
        items: the items to iterate over.
        total: number of items.
        what: the work, such as "Reading images".
    """
    if shows_bars(report):
        with bar(total, what) as shown:
            for item in items:
                yield item
                shown.update()
        return
    last_report = time.monotonic()
    for index, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last_report > _PAUSE and index < total:
            last_report = time.monotonic()
            report(f"{what}: {index} of {total}")
