"""Long runs: memory, open files and threads do not grow after the first part."""

from __future__ import annotations

import os
import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.faults import forked
from benchmarks.faults.inputs import TOY
from benchmarks.faults.kills import master_of
from benchmarks.faults.tally import Row, Tally

_PORT = 18_765
_GROWTH = 30.0  # MB that the process may grow after its first part


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 1) -> None:
    """Adds a row for training, prediction and the server."""
    del jobs, seed
    shutil.rmtree(place, ignore_errors=True)
    master = master_of(place / "master")
    steps = max(20, round(20_000 * share))
    words = ("train", f"--data={master}/set", f"--output_dir={place}/long", *TOY, f"--steps_per_epoch={steps // 10}")
    _watched(tally, f"{steps:,} steps of training", place / "a", (*words, "--epochs=10"), place / "long/train_log.csv")
    requests = max(20, round(10_000 * share))
    log = place / "predictions"
    predicting = lambda: _predict(master / "run", requests, log)  # noqa: E731
    _watched(tally, f"{requests:,} predictions of one process", place / "b", predicting, log)
    _serve(tally, master, place / "c", max(20, round(1_000 * share)))


def _usage(process: int) -> tuple[float, int, int]:
    """Resident MB, open files and threads of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    files = len(os.listdir(f"/proc/{process}/fd"))
    return int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"])


def _watched(tally: Tally, name: str, place: Path, words: tuple[str, ...] | Callable[[], None], log: Path) -> None:
    """Runs a command that adds ten lines to a log; compares its usage after the second and at the last but one."""
    place.mkdir()
    running, usages, lines = forked.Running(words, place), [], 0
    while running.is_running():
        now = len(log.read_text().splitlines()) if log.exists() else 0
        if now != lines and now >= 2:
            usages.append(_usage(running.pid))
        lines = now
        time.sleep(0.05)
    ended = running.wait(1)
    _add(tally, name, usages, "" if ended.code == 0 else ended.last_line)


def _add(tally: Tally, name: str, usages: list[tuple[float, int, int]], failure: str) -> None:
    row = Row("long", name)
    if not failure:
        (first, *_, last) = usages
        begin, end = (f"{usage[0]:.0f} MB, {usage[1]} files, {usage[2]} threads" for usage in (first, last))
        row.note = f"{begin}; at the end {end}"
        if last[0] > first[0] + _GROWTH or last[1] > first[1] or last[2] > first[2]:
            failure = row.note
    row.count(failure)
    tally.add(row)


def _predict(run: Path, count: int, log: Path) -> None:
    import cutpaste_tf

    detector = cutpaste_tf.load(run)
    images = np.random.default_rng(0).integers(0, 256, (10, 40, 40, 3), np.uint8)
    for index in range(count):
        detector.predict(images[index % 10], heat_map=index % 10 == 0)
        if (index + 1) % (count // 10) == 0:
            with log.open("a") as file:
                file.write(f"{index}\n")
            time.sleep(0.2)  # to be looked at


def _serve(tally: Tally, master: Path, place: Path, count: int) -> None:
    place.mkdir()
    running = forked.Running(("serve", f"--detector={master}/run", f"--port={_PORT}"), place)
    content = next((master / "set/test/square").iterdir()).read_bytes()
    usages, failure = [], ""
    address = f"http://127.0.0.1:{_PORT}/predict"
    began = time.monotonic()
    index = 0
    while index < count and not failure:
        try:
            request = urllib.request.Request(address, content, {"Content-Type": "image/png"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                answer.read()
        except OSError as error:
            if not index and time.monotonic() - began < 60 and running.is_running():
                time.sleep(0.2)  # it is still loading
                continue
            failure = str(error)
        index += 1
        if index % max(1, count // 10) == 0:
            time.sleep(0.5)  # until the connection is closed
            usages.append(_usage(running.pid))
    running.send(15)
    running.wait(60)
    _add(tally, f"{count:,} requests to the server", usages, failure)
