"""Two at once in one place: each is correct or refused, and nothing gets mixed up."""

from __future__ import annotations

import functools
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.faults import forked
from benchmarks.faults.inputs import TOY
from benchmarks.faults.kills import REPRODUCE, Work, after, download, master_of, served, undisturbed
from benchmarks.faults.tally import Row, Tally


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 1) -> None:
    """Adds a row for each pair."""
    del jobs
    shutil.rmtree(place, ignore_errors=True)
    master = master_of(place / "master")
    content = np.random.default_rng(seed).bytes(10**6)
    train = ("train", "--data={place}/set", "--output_dir={place}/new", *TOY, "--epochs=2")
    evaluate = ("eval", "--run_dir={place}/run")
    maps = ("--heat_maps={place}/maps", "--output={place}/predicted.csv")
    predict = ("predict", "--detector={place}/run", "--images={place}/set/test", *maps)
    with served(content) as address:
        fetch = functools.partial(download, address, "sha256:" + hashlib.sha256(content).hexdigest())
        pairs: dict[str, tuple[int, Work, Sequence[str] | Callable[[Path], None]]] = {
            "two trainings": (10, Work("", 0, train, ("new",)), train),
            "evaluation during training": (10, Work("", 0, train, ("new",)), ("eval", "--run_dir={place}/new")),
            "two evaluations": (10, Work("", 0, evaluate, ("run",)), evaluate),
            "two predictions": (10, Work("", 0, predict, ("maps", "predicted.csv")), predict),
            "two reproductions": (3, Work("", 0, (*REPRODUCE, "--output_dir={place}/table"), ("table",)), ()),
            "two downloads": (10, Work("", 0, fetch, ("keras",)), fetch),
        }
        for number, (name, (trials, work, other)) in enumerate(pairs.items()):
            row = Row("two at once", name)
            expected, seconds = undisturbed(work, master, place)
            refused = 0
            for index in range(max(1, round(share * trials))):
                rng = np.random.default_rng([seed, number, index])
                folder = place / f"pair{number}_{index}"
                shutil.copytree(master, folder)
                ends = _both(work.what, other or work.what, folder, rng.random() * seconds * 0.7)
                wrong = [end.last_line for end in ends if end.code and not end.is_refusal]
                refused += sum(bool(end.code) for end in ends)
                row.count(wrong[0] if wrong else after(work, folder, expected))
                shutil.rmtree(folder)
            row.note = f"{refused} of {2 * row.trials} commands were refused"
            tally.add(row)


def _both(
    first: Sequence[str] | Callable[[Path], None],
    second: Sequence[str] | Callable[[Path], None],
    folder: Path,
    pause: float,
) -> list[forked.Ended]:
    """Starts two commands, the second after a pause, and waits for both."""
    running = []
    for name, what in (("a", first), ("b", second)):
        place = folder / name
        place.mkdir()
        words = functools.partial(what, folder) if callable(what) else [word.format(place=folder) for word in what]
        running.append(forked.Running(words, place))
        if name == "a":
            time.sleep(pause)
    ends = [each.wait(300) for each in running]
    for name in ("a", "b"):
        shutil.rmtree(folder / name)
    return ends
