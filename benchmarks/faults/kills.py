"""Kills at random moments: the same command then produces the files of an undisturbed run."""

from __future__ import annotations

import csv
import functools
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import toys
from benchmarks.faults import forked
from benchmarks.faults.inputs import TOY
from benchmarks.faults.tally import Row, Tally
from cutpaste_tf import environment

_CHAIN = 4  # kills of one run, at most, before it may end
# What is said of time, and the event files, whose names are moments.
_TIMES = re.compile(rb'"(\w*seconds\w*|date_saved|images_per_second\w*)": [^,\n}]+')
_VERSION = re.compile(r"^export/\d+/")  # an export that was whole when it was killed gets a second version
_IGNORED = re.compile(
    r"^table/.*(/embeddings/|png$)|(^|/)(\.lock|tensorboard|\.out|\.err|log\.txt|home|tmp|cwd|costs\.\w+)(/|$)"
)


class Work(NamedTuple):
    """Something that is killed.

    Attributes:
        name: for the table.
        trials: kills.
        what: the command, or a function; `{place}` is the trial's folder.
        makes: the files and folders in a trial's folder that it makes.
    """

    name: str
    trials: int
    what: tuple[str, ...] | Callable[[Path], None]
    makes: tuple[str, ...]


_TRAINED = ("train", "--data={place}/set", "--output_dir={place}/new", "--checkpoint_minutes=0.001", *TOY)
_TRAINED += ("--epochs=3", "--head_epochs=1", "--steps_per_epoch=20")


REPRODUCE = ("reproduce", "--table=5", "--columns=cutpaste", "--categories=set", "--data_root={place}", "--seeds=1")
REPRODUCE += ("--scale=tiny",)


def prepare(place: Path) -> None:
    """Prepares PLACE/bottle as mvtec_ad/bottle in PLACE/prepared."""
    from data import mvtec_ad

    mvtec_ad.PUBLISHED["bottle"] = mvtec_ad.Counts(6, 3, 3, 3)  # as many as the tiny category has
    mvtec_ad.prepare(place / "bottle", ["bottle"], place / "prepared")


def download(address: str, digest: str, place: Path) -> None:
    """Downloads a file as weights are."""
    from cutpaste_tf.networks import download

    os.environ["KERAS_HOME"] = str(place / "keras")
    download.fetch(download.Remote(address, digest, "weights.bin"), "weights")


def _works(address: str, digest: str) -> tuple[Work, ...]:
    return (
        Work("training, both phases", 25, _TRAINED, ("new",)),
        Work("evaluation", 20, ("eval", "--run_dir={place}/run"), ("run",)),
        Work(
            "prediction with heat maps",
            15,
            ("predict", "--detector={place}/run", "--images={place}/set/test", "--heat_maps={place}/maps",
             "--output={place}/predicted.csv"),
            ("maps", "predicted.csv"),
        ),
        Work("export", 10, ("export", "--run_dir={place}/run", "--output={place}/export"), ("export",)),
        Work("reproduction of a table", 10, (*REPRODUCE, "--output_dir={place}/table"), ("table",)),
        Work("download", 10, functools.partial(download, address, digest), ("keras",)),
        Work("preparation of a data set", 10, prepare, ("prepared",)),
    )  # fmt: skip


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 2) -> None:
    """Adds a row for each kind of work; on JAX, for training alone."""
    del jobs  # a moment is a part of the time that an undisturbed run takes
    shutil.rmtree(place, ignore_errors=True)
    master = master_of(place / "master")
    content = np.random.default_rng(seed).bytes(10**7)
    with served(content) as address:
        for number, work in enumerate(_works(address, "sha256:" + hashlib.sha256(content).hexdigest())):
            if environment.backend() == "jax":
                if number:
                    break
                work = work._replace(name=f"{work.name}, on JAX")
            row = Row("kills", work.name)
            _kill(row, work, master, place, max(1, round(share * work.trials)), np.random.default_rng([seed, number]))
            tally.add(row)
    _stop(tally, master, place, max(1, round(share * 10)), np.random.default_rng([seed, 99]))


class _Slow(http.server.BaseHTTPRequestHandler):
    """Serves its content within a second."""

    content = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        part = len(self.content) // 20
        try:
            for start in range(0, len(self.content), part):
                self.wfile.write(self.content[start : start + part])
                time.sleep(0.05)
        except OSError:
            pass  # the other side was killed

    def log_message(self, format: str, *args: object) -> None:
        pass


class served:  # noqa: N801
    """Serves content at an address of this machine, from a process of its own, since this one forks."""

    def __init__(self, content: bytes):
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Content", (_Slow,), {"content": content})
        )

    def __enter__(self) -> str:
        self._pid = os.fork()
        if not self._pid:
            threading.Thread(target=self._server.serve_forever, daemon=False).run()
            os._exit(0)
        return f"http://127.0.0.1:{self._server.server_address[1]}/weights.bin"

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._server.server_close()


def master_of(place: Path) -> Path:
    """A folder with a category and a run that trained nothing."""
    place.mkdir(parents=True)
    toys.draw_category(place / "set")
    shutil.copytree(place / "set", place / "bottle")
    ended = forked.run(("train", f"--data={place}/set", f"--output_dir={place}/run", "--epochs=0", *TOY), place)
    if ended.code:
        raise RuntimeError(str(ended))
    return place


def _start(work: Work, folder: Path) -> forked.Running:
    what = work.what
    if callable(what):
        return forked.Running(functools.partial(what, folder), folder)
    return forked.Running([word.format(place=folder) for word in what], folder)


def _kill(row: Row, work: Work, master: Path, place: Path, trials: int, rng: np.random.Generator) -> None:
    """Kills a work at random moments until it was killed so often; then compares."""
    expected, seconds = undisturbed(work, master, place)
    number = killed = 0
    while killed < trials:
        folder = place / f"{row.what.split(',')[0].replace(' ', '_')}{number}"
        shutil.copytree(master, folder)
        number, moments = number + 1, []
        for _ in range(min(_CHAIN, trials - killed)):
            moment = rng.random() * seconds
            running = _start(work, folder)
            while running.is_running() and running.age < moment:
                time.sleep(0.002)
            if not running.is_running():
                seconds = running.seconds  # the machine is less busy now
                break
            running.send(signal.SIGKILL)
            running.wait(60)
            moments.append(moment)
        failure = after(work, folder, expected)
        for _ in moments:
            row.count()
        if moments and failure:
            row.failures.append(f"killed after {[round(moment, 2) for moment in moments]} s: {failure}")
            print("  FAILED", row.failures[-1], flush=True)
        else:
            shutil.rmtree(folder)
        killed += len(moments)
    row.note = f"{number} runs, each killed up to {_CHAIN} times"


def undisturbed(work: Work, master: Path, place: Path) -> tuple[dict[str, str], float]:
    """The files that it makes, and how long it takes."""
    folder = place / "undisturbed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(master, folder)
    ended = _start(work, folder).wait(300)
    if ended.code:
        raise RuntimeError(f"{work.name}: {ended}")
    return contents(folder, work.makes), ended.seconds


def after(work: Work, folder: Path, expected: dict[str, str]) -> str:
    """Runs to the end; what is wrong then. A prediction that was whole already is refused."""
    ended = _start(work, folder).wait(300)
    if ended.code and "already exists" not in ended.err:
        return ended.last_line
    found = contents(folder, work.makes)
    if found == expected:
        return ""
    different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"other files: {', '.join(different)}"


def _stop(tally: Tally, master: Path, place: Path, trials: int, rng: np.random.Generator) -> None:
    """SIGTERM during training: it saves a checkpoint and ends with code 143; then it ends as if it had not been."""
    name = "SIGTERM during training" + (", on JAX" if environment.backend() == "jax" else "")
    row, work = Row("kills", name), Work("", 0, _TRAINED, ("new",))
    expected, seconds = undisturbed(work, master, place)
    for number in range(trials):
        folder = place / f"stopped{number}"
        shutil.copytree(master, folder)
        running = _start(work, folder)
        while running.is_running() and not (folder / "new/checkpoint.npz").exists():  # until it trains
            time.sleep(0.002)
        time.sleep(rng.random() * seconds * 0.2)
        running.send(signal.SIGTERM)
        ended = running.wait(300)
        failure = "" if ended.code in (0, 143) else f"ended with {ended.last_line}"
        if (
            ended.code == 143
            and "run the same command to continue" in ended.err
            and not (folder / "new/checkpoint.npz").exists()
        ):
            failure = "no checkpoint"
        row.count(failure or after(work, folder, expected))
        shutil.rmtree(folder)
    tally.add(row)


def contents(folder: Path, makes: tuple[str, ...]) -> dict[str, str]:
    """Digests of files by path, of what does not depend on the time or the place."""
    found = [
        path
        for name in makes
        for path in ([folder / name] if (folder / name).is_file() else (folder / name).rglob("*"))
    ]
    result = {}
    for path in sorted(found):
        name = _VERSION.sub("export/N/", str(path.relative_to(folder)))
        if path.is_file() and not _IGNORED.search(name):
            result[name] = hashlib.sha256(_stable(path).replace(os.fsencode(folder), b"PLACE")).hexdigest()[:16]
    return result


def scores_of(path: Path) -> np.ndarray:
    """The scores in a scores.csv."""
    with path.open(newline="") as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def _stable(path: Path) -> bytes:
    """A file's content without moments."""
    content = path.read_bytes()
    if path.suffix in (".npz", ".keras"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in sorted(archive.namelist()) if not name.endswith(".json")]  # layers' names
            return b"".join(archive.read(name) for name in names)
    if path.name == "train_log.csv":
        rows = [
            {key: value for key, value in row.items() if key != "images_per_second"}
            for row in csv.DictReader(io.StringIO(content.decode()))
        ]
        return json.dumps(rows).encode()
    if path.suffix == ".pb" or ".data-0" in path.name or path.name.endswith((".index", "export.json", ".html")):
        return b""  # TensorFlow names things anew in every process
    return _TIMES.sub(b"", content)
