"""Disks that are full, read-only or withdrawn: a one-line error, and later the same command continues."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.faults import forked
from benchmarks.faults.inputs import TOY
from benchmarks.faults.kills import Work, after, master_of, undisturbed
from benchmarks.faults.tally import Row, Tally

_LEAST = 4096.0  # bytes: the limit is on the file with the command's errors as well


def _works() -> tuple[Work, ...]:
    train = ("train", "--data={place}/set", "--output_dir={place}/new", "--checkpoint_minutes=0.001", *TOY)
    maps = ("--heat_maps={place}/maps", "--output={place}/predicted.csv")
    return (
        Work("training", 15, (*train, "--epochs=2"), ("new",)),
        Work("evaluation", 15, ("eval", "--run_dir={place}/run"), ("run",)),
        Work(
            "prediction",
            10,
            ("predict", "--detector={place}/run", "--images={place}/set/test", *maps),
            ("maps", "predicted.csv"),
        ),
        Work("export", 10, ("export", "--run_dir={place}/run", "--output={place}/export"), ("export",)),
    )


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 1) -> None:
    """Adds rows for limits on a file's size, small file systems (for root alone), and folders that are not ours."""
    del jobs
    shutil.rmtree(place, ignore_errors=True)
    master = master_of(place / "master")
    kinds: list[tuple[str, Callable[[Work, Path, float], forked.Ended]]] = [("a limit on the size of files", _limited)]
    if os.geteuid() == 0 and shutil.which("mount"):
        kinds += [("a file system of few kB", _small), ("a read-only file system", _read_only)]
        kinds += [("permission withdrawn", _forbidden)]
    for number, (name, run) in enumerate(kinds):
        row = Row("disk", name)
        for which, work in enumerate(_works()):
            expected, seconds = undisturbed(work, master, place)
            largest = max(path.stat().st_size for made in work.makes for path in _files(place / "undisturbed" / made))
            for index in range(max(1, round(share * work.trials))):
                rng = np.random.default_rng([seed, number, which, index])
                folder = place / f"disk{number}_{which}_{index}"
                shutil.copytree(master, folder)
                ended = run(work, folder, max(_LEAST, float(largest * rng.random() ** 2)))
                failure = "" if ended.code == 0 or ended.is_refusal else ended.last_line
                row.count(f"{work.name}: {failure}" if failure else _then(work, folder, expected))
                shutil.rmtree(folder)
        tally.add(row)
    for name, disturb in (("the run's folder removed", _removed), ("a share that stalls", _stalled)):
        row, work = Row("disk", name), _works()[0]
        expected, seconds = undisturbed(work, master, place)
        for index in range(max(1, round(share * 10))):
            rng = np.random.default_rng([seed, 9, index])
            folder = place / f"gone{index}"
            shutil.copytree(master, folder)
            ended = disturb(work, folder, rng.random() * seconds)
            failure = "" if ended.code == 0 or ended.is_refusal else ended.last_line
            row.count(failure or _then(work, folder, expected))
            shutil.rmtree(folder)
        tally.add(row)


def _then(work: Work, folder: Path, expected: dict[str, str]) -> str:
    failure = after(work, folder, expected)
    return f"{work.name}, afterwards: {failure}" if failure else ""


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]


def _run(work: Work, folder: Path, before: Callable[[], None] | None = None) -> forked.Ended:
    assert not callable(work.what)
    return forked.run([word.format(place=folder) for word in work.what], folder, limit=300, before=before)


def _limited(work: Work, folder: Path, size: float) -> forked.Ended:
    """No file may be larger than this."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))

    return _run(work, folder, limit)


def _mounted(work: Work, folder: Path, options: str, before: Callable[[], None] | None = None) -> forked.Ended:
    """Runs where what it makes is on a file system of its own, with what was there; its files are kept."""
    for made in work.makes:
        place = folder / made
        if place.suffix:
            continue
        place.mkdir(exist_ok=True)
        kept = folder / f"kept_{made}"
        shutil.copytree(place, kept)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options.split(";")[0], "tmpfs", str(place)], check=True)
        shutil.copytree(kept, place, dirs_exist_ok=True)
        if ";" in options:
            subprocess.run(["mount", "-o", options.split(";")[1], str(place)], check=True)
    try:
        return _run(work, folder, before)
    finally:
        for made in work.makes:
            place, kept = folder / made, folder / f"kept_{made}"
            if place.suffix:
                continue
            shutil.rmtree(kept)
            shutil.copytree(place, kept)
            subprocess.run(["umount", str(place)], check=True)
            shutil.rmtree(place)
            kept.rename(place)


def _small(work: Work, folder: Path, size: float) -> forked.Ended:
    there = sum(path.stat().st_size for made in work.makes for path in _files(folder / made) if path.exists())
    return _mounted(work, folder, f"size={int(there * 1.1 + 64_000 + 3 * size) // 1024}k")


def _read_only(work: Work, folder: Path, size: float) -> forked.Ended:
    del size
    return _mounted(work, folder, "size=64m;remount,ro")


def _forbidden(work: Work, folder: Path, size: float) -> forked.Ended:
    """Folders that may be read but not written, by a process for which permissions count, as they do not for root."""
    del size
    for name in (".out", ".err"):
        (folder / name).touch()
    for name in ("home", "tmp", "cwd"):
        (folder / name).mkdir(exist_ok=True)
    places = [folder, *(path for made in work.makes for path in (folder / made, *(folder / made).rglob("*")))]
    places = [place for place in places if place.is_dir()]
    for place in places:
        place.chmod(0o555)

    def bow() -> None:
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None)
        libc.capget(header, data)
        data[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.capset(header, data)

    ended = _run(work, folder, bow)
    for place in places:
        place.chmod(0o755)
    return ended


def _removed(work: Work, folder: Path, moment: float) -> forked.Ended:
    """The run's folder is removed at a moment."""
    assert not callable(work.what)
    running = forked.Running([word.format(place=folder) for word in work.what], folder)
    while running.is_running() and running.age < moment:
        time.sleep(0.005)
    shutil.rmtree(folder / "new", ignore_errors=True)
    return running.wait(300)


def _stalled(work: Work, folder: Path, moment: float) -> forked.Ended:
    """Every file is on the disk only after a while; it is waited for."""

    def stall() -> None:
        sync = os.fsync
        os.fsync = lambda file: (time.sleep(moment / 4), sync(file))[1]

    return _run(work, folder, stall)
