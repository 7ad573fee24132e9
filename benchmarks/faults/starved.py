"""Little memory: under a limit on the address space, the work fits or ends with a one-line error."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import toys
from benchmarks.faults import forked
from benchmarks.faults.kills import contents
from benchmarks.faults.tally import Row, Tally

_SIDE = 1024  # pixels of the images to read
_NETWORK = ("--backbone=toy", "--stem=imagenet", "--head_dims=16,8", "--steps_per_epoch=2")


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 1) -> None:
    """Adds a row for each phase; the limit is random, from little more than is in use to what is needed."""
    del jobs
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(8):
        toys.write_image(place / f"set/train/good/{index}.png", rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8))
    for index in range(3):
        toys.write_image(place / f"set/test/bad/{index}.png", rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8))
    shutil.copytree(place / "set/test", place / "photos")
    train = ("train", f"--data={place}/set", f"--output_dir={place}/new", f"--image_size={_SIDE}", *_NETWORK)
    patches = ("--patch_size=64", "--extract_size=32", "--stride=8", "--dense=fast", "--epochs=0")
    works: list[tuple[str, tuple[str, ...]]] = [
        ("training", (*train, "--epochs=1", "--batch_size=48")),
        ("fitting a density per location", (*train, *patches, "--density_mode=per_location")),
        ("fitting a memory of patches", (*train, *patches, "--density=nearest")),
    ]
    ended = forked.run((*works[1][1][:2], f"--output_dir={place}/run", *works[1][1][3:]), place)
    if ended.code:
        raise RuntimeError(str(ended))
    works += [("scoring", ("eval", f"--run_dir={place}/run", f"--output_dir={place}/scored"))]
    works += [("prediction", ("predict", f"--detector={place}/run", f"--images={place}/photos"))]
    for number, (name, words) in enumerate(works):
        row, refused = Row("memory", name), 0
        for index in range(max(1, round(share * 20))):
            draw = np.random.default_rng([seed, number, index])
            shutil.rmtree(place / "run/embeddings", ignore_errors=True)
            ended = forked.run(words, place, limit=300, before=_limit(float(draw.random()) ** 2 * 6e9))
            row.count("" if ended.code == 0 or ended.is_refusal else ended.last_line)
            refused += ended.code == 2
            for left in ("new", "scored"):
                shutil.rmtree(place / left, ignore_errors=True)
        row.note = f"{refused} ended in one line"
        tally.add(row)
    with _group() as group:
        if group is not None:
            _kill_by_kernel(tally, place, works[0][1], group, max(1, round(share * 20)), seed)


def _kill_by_kernel(tally: Tally, place: Path, words: tuple[str, ...], group: Path, trials: int, seed: int) -> None:
    """Training in a control group with a limit: Linux kills it without a word, and the same command goes on."""
    row, killed, warned = Row("memory", "training in a control group"), 0, 0
    if (ended := forked.run(words, place)).code:
        raise RuntimeError(str(ended))
    expected = contents(place, ("new",))
    for index in range(trials):
        shutil.rmtree(place / "new")
        draw = np.random.default_rng([seed, 99, index])
        (group / "memory.limit_in_bytes").write_text(str(int(5e7 + float(draw.random()) * 2e9)))
        ended = forked.run(words, place, limit=300, before=lambda: _enter(group))
        is_survived = ended.code == 0 or ended.is_refusal
        if ended.code == -signal.SIGKILL:
            killed += 1
            warned += "Warning: Training needs about" in ended.out + ended.err
            is_survived = True
        again = forked.run(words, place, limit=300)
        is_same = again.code == 0 and contents(place, ("new",)) == expected
        row.count("" if is_survived and is_same else f"{ended.last_line}, then {again.last_line}")
    row.note = f"{killed} were killed by the kernel, {warned} of them after a warning that they would need more"
    tally.add(row)


@contextlib.contextmanager
def _group() -> Iterator[Path | None]:
    """A control group of version 1 for memory; None if this user or system cannot make any."""
    group = Path("/sys/fs/cgroup/memory/cutpaste_faults")
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def _limit(more: float) -> Callable[[], None]:
    """Limits the address space to what is in use and some more bytes."""

    def limit() -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        size = next(int(line.split()[1]) for line in lines if line.startswith("VmSize")) * 1024 + int(more)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    return limit
