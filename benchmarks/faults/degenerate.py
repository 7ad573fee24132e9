"""Degenerate data: each gives a correct result or a one-line error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import toys
from benchmarks.faults import forked
from benchmarks.faults.inputs import TOY
from benchmarks.faults.kills import scores_of
from benchmarks.faults.tally import Row, Tally

_SIDE = 40


def _kinds() -> dict[str, Callable[[np.random.Generator], list[np.ndarray]]]:
    """Training images of each kind of set."""

    def drawn(rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)

    def constant_channel(rng: np.random.Generator) -> np.ndarray:
        image = drawn(rng)
        image[..., 1] = 7
        return image

    def copies(count: int) -> Callable[[np.random.Generator], list[np.ndarray]]:
        return lambda rng: [drawn(rng)] * count

    return {
        "all images equal": copies(8),
        "all images black": lambda rng: [np.zeros((_SIDE, _SIDE, 3), np.uint8)] * 8,
        "one color each": lambda rng: [np.full((_SIDE, _SIDE, 3), value, np.uint8) for value in range(0, 240, 30)],
        "one image twice among others": lambda rng: [*[drawn(rng)] * 2, *(drawn(rng) for _ in range(6))],
        "a constant channel": lambda rng: [constant_channel(rng) for _ in range(8)],
        "one image": copies(1),
        "two images": lambda rng: [drawn(rng), drawn(rng)],
        "10,000 equal images": copies(10_000),
    }


_PATCHES = ("--patch_size=32", "--extract_size=16", "--stride=16", "--dense=exact")
_DETECTORS = {
    "pooled feature": (),
    "Ledoit-Wolf": ("--density=ledoit_wolf",),
    "kernel density": ("--density=kde",),
    "mixture": ("--density=mixture", "--mixture_components=2"),
    "nearest": ("--density=nearest",),
    "one density of patches": (*_PATCHES, "--density_mode=shared"),
    "a density for each location": (*_PATCHES, "--density_mode=per_location"),
    "memory of patches": (*_PATCHES, "--density=nearest", "--coreset=10"),
}


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 1) -> None:
    """Adds a row for each kind of set, with a trial for each kind of detector; and one for training that diverges."""
    del jobs, share
    shutil.rmtree(place, ignore_errors=True)
    for number, (name, draw) in enumerate(_kinds().items()):
        data = place / f"set{number}"
        images = draw(np.random.default_rng([seed, number]))
        toys.draw_category(data)
        shutil.rmtree(data / "train")
        first = toys.write_image(data / "train/good/00000.png", images[0])
        for index, image in enumerate(images[1:], 1):
            path = data / f"train/good/{index:05d}.png"
            if len(images) > 100:
                path.hardlink_to(first)
            else:
                toys.write_image(path, image)
        row, refused = Row("degenerate", name), 0
        for flags in _DETECTORS.values():
            failure, was_refused = _try(place, data, ("--epochs=0", *flags))
            row.count(failure and f"{' '.join(flags)}: {failure}")
            refused += was_refused
        row.note = f"{refused} ended in one line"
        tally.add(row)
    row = Row("degenerate", "training that diverges")
    for rate in ("1e3", "1e6", "1e9"):
        failure, _ = _try(place, place / "set4", ("--epochs=2", f"--learning_rate={rate}"))
        row.count(failure)
    tally.add(row)


def _try(place: Path, data: Path, flags: tuple[str, ...]) -> tuple[str, bool]:
    """What is wrong with training and scoring, and whether they ended in one line."""
    run = place / "run"
    shutil.rmtree(run, ignore_errors=True)
    for words in (("train", f"--data={data}", f"--output_dir={run}", *TOY, *flags), ("eval", f"--run_dir={run}")):
        ended = forked.run(words, place, limit=300)
        if ended.is_refusal:
            return "", True
        if ended.code or "Traceback" in ended.err:
            return ended.last_line, False
    scores = scores_of(run / "eval/scores.csv")
    return ("" if np.isfinite(scores).all() else "scores that are not finite"), False
