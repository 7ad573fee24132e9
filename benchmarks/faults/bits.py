"""Same seed, same bits: with different numbers of threads, on a busy machine, after a resume, from a prepared set."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import toys
from benchmarks.faults import forked
from benchmarks.faults.inputs import TOY
from benchmarks.faults.kills import contents, master_of, prepare, scores_of
from benchmarks.faults.tally import Row, Tally

_TRAIN = ("--image_size=64", "--backbone=resnet18", "--epochs=1", "--steps_per_epoch=4", "--scar_max_length=20")


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 1) -> None:
    """Adds a row for each condition; each trial trains and evaluates."""
    del jobs, seed
    shutil.rmtree(place, ignore_errors=True)
    master_of(place / "master")
    expected = _made(place, "one", _threads(1))
    conditions: dict[str, tuple[int, Callable[[int], tuple[dict[str, str], np.ndarray]]]] = {
        "1 thread, again": (3, lambda n: _made(place, f"again{n}", _threads(1))),
        "2 threads": (5, lambda n: _made(place, f"two{n}", _threads(2))),
        "4 threads": (5, lambda n: _made(place, f"four{n}", _threads(4))),
        "2 threads, busy machine": (5, lambda n: _busy(lambda: _made(place, f"busy{n}", _threads(2)))),
        "from a prepared set": (1, lambda n: _prepared(place, f"prepared{n}")),
        "AVX2, an older CPU's": (1, lambda n: _made(place, f"avx2{n}", _older("AVX2", "HASWELL"))),
        "SSE 4.1, an older CPU's": (1, lambda n: _made(place, f"sse{n}", _older("SSE41", "NEHALEM"))),
    }
    for name, (trials, make) in conditions.items():
        row, apart, others = Row("same bits", name), 0.0, 0
        for index in range(max(1, round(share * trials))):
            files, scores = make(index)
            apart = max(apart, float(np.max(np.abs(scores - expected[1]) / np.abs(expected[1]))))
            different = sorted(key for key in expected[0] if files.get(key) != expected[0][key])
            others += bool(different)
            is_right = bool(different) <= (name == "4 threads" or "CPU" in name)  # sums are in another order there
            row.count("" if is_right else f"other {', '.join(different)}, scores by {apart:.1e}")
        row.note = f"other bits {others} times; scores differ by {apart:.1e} at most, relatively"
        tally.add(row)
    row, first = Row("same bits", "2 threads, images of 1,024 px, again"), _large(place, "large")
    for index in range(max(1, round(share * 5))):
        files = _large(place, f"large{index}")
        different = sorted(key for key in first if files.get(key) != first[key])
        row.count(f"other {', '.join(different)}" if different else "")
    tally.add(row)


def _threads(count: int) -> Callable[[], None]:
    def limit() -> None:
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(count)

    return limit


def _older(convolutions: str, products: str) -> Callable[[], None]:
    """One thread, with the instructions of an older CPU, as oneDNN and OpenBLAS name them."""

    def limit() -> None:
        _threads(1)()
        os.environ["ONEDNN_MAX_CPU_ISA"], os.environ["OPENBLAS_CORETYPE"] = convolutions, products

    return limit


def _made(
    place: Path, name: str, before: Callable[[], None], data: tuple[str, ...] = ()
) -> tuple[dict[str, str], np.ndarray]:
    """Digests of weights, log and scores of a run, and its scores."""
    folder = place / name
    folder.mkdir()
    data = data or (f"--data={place}/master/bottle",)
    words = ("train", *data, f"--output_dir={folder}/run", *TOY[1:], *_TRAIN)
    ended = forked.run(words, folder, before=before, limit=300)
    evaluated = forked.run(("eval", f"--run_dir={folder}/run", *data[1:]), folder, before=before, limit=300)
    if ended.code or evaluated.code:
        raise RuntimeError(f"{ended}\n{evaluated}")
    files = contents(folder, ("run",))
    kept = ("detector/model.keras", "detector/density.npz", "train_log.csv", "eval/scores.csv")
    scores = scores_of(folder / "run/eval/scores.csv")
    shutil.rmtree(folder)
    return {name: files[f"run/{name}"] for name in kept}, scores


def _large(place: Path, name: str) -> dict[str, str]:
    """Digests of the files of a run whose operations take so long that they would overlap."""
    folder = place / name
    for index in range(4):
        image = np.random.default_rng(index).integers(0, 256, (1024, 1024, 3), np.uint8)
        toys.write_image(folder / f"set/train/good/{index}.png", image)
    words = ("train", f"--data={folder}/set", f"--output_dir={folder}/run", *TOY, "--image_size=1024", "--epochs=1")
    ended = forked.run(words, folder, before=_threads(2), limit=300)
    if ended.code:
        raise RuntimeError(f"{ended}")
    files = contents(folder, ("run",))
    shutil.rmtree(folder)
    return files


def _busy(make: Callable[[], tuple[dict[str, str], np.ndarray]]) -> tuple[dict[str, str], np.ndarray]:
    """With three processes that compute beside it."""
    others = []
    for _ in range(3):
        other = os.fork()
        if not other:
            while True:
                pass
        others.append(other)
    try:
        return make()
    finally:
        for other in others:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)


def _prepared(place: Path, name: str) -> tuple[dict[str, str], np.ndarray]:
    forked.run(lambda: prepare(place / "master"), place / "master")
    data = ("--data=mvtec_ad/bottle", f"--tfds_data_dir={place}/master/prepared")
    return _made(place, name, _threads(1), data)
