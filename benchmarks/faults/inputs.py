"""Mangled files in every role: each must give a correct result or a one-line error; nothing else may be written."""

from __future__ import annotations

import contextlib
import csv
import functools
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import toys
from benchmarks.faults import forked, mangling
from benchmarks.faults.forked import Ended, Running
from benchmarks.faults.tally import Row, Tally
from cutpaste_tf.progress import say

LIMIT = 10  # seconds of computing
_WALL = 60.0  # seconds until a process that waits for something is stopped
TOY = ("--backbone=toy", "--image_size=32", "--batch_size=6", "--scar_max_length=20", "--stem=imagenet")
TOY += ("--head_dims=16,8", "--steps_per_epoch=3")
_TRAINED = "train_embeddings.npz", "suspects.csv", "augmentations.png", "train_log.csv", "tensorboard"


class Role(NamedTuple):
    """Something that a file is used as.

    Attributes:
        name: for the table.
        trials: of 1,000.
        files: where such files are in a trial's folder, as patterns.
        words: the command that reads it.
        mangle: functions for content, beside those for any file.
        is_equal: whether the scores must be those of an undisturbed run if the command succeeds.
    """

    name: str
    trials: int
    files: tuple[str, ...]
    words: tuple[str, ...]
    mangle: tuple[Callable, ...] = ()
    is_equal: bool = False


_TRAIN = ("train", "--data={place}/set", "--output_dir={place}/new", "--epochs=0", *TOY)
_EVAL = ("eval", "--run_dir={place}/run", "--data={place}/set")
_PREDICT = ("predict", "--detector={place}/run", "--images={place}/set/test", "--output={place}/scores.csv")
_RESNET = ("train", "--data={place}/set", "--output_dir={place}/new", "--epochs=0", "--image_size=32", "--batch_size=6")
_RESNET += ("--scar_max_length=20", "--stem=imagenet")
_ARRAYS = (mangling.arrays, mangling.lying_archive)
_STOPPED = ("train", "--data={place}/set", "--output_dir={place}/stopped", "--epochs=2", *TOY)
_PATCHES = "predict", "--detector={place}/patches", "--images={place}/set/test", "--output={place}/scores.csv"
_MEMORY = "predict", "--detector={place}/memory", "--images={place}/set/test", "--output={place}/scores.csv"
_EXPORT = "predict", "--detector={place}/export", "--images={place}/set/test", "--output={place}/scores.csv"
ROLES = (
    Role("training image", 150, ("set/train/good/*.png",), _TRAIN),
    Role("test image", 110, ("set/test/*/*.png",), _EVAL),
    Role("image to predict", 100, ("set/test/*/*.png",), _PREDICT),
    Role("mask", 90, ("set/ground_truth/*/*.png",), _EVAL),
    Role("weights, .npz", 40, ("weights.npz",), (*_RESNET, "--weights={place}/weights.npz"), _ARRAYS),
    Role("weights, .safetensors", 40, ("weights.safetensors",), (*_RESNET, "--weights={place}/weights.safetensors")),
    Role("config.json", 70, ("run/config.json", "run/detector/config.json"), _EVAL, (mangling.json_,) * 4),
    Role("training_data.json", 30, ("run/**/training_data.json",), _EVAL, (mangling.json_,) * 4),
    Role("checkpoint", 80, ("stopped/checkpoint.npz",), _STOPPED, _ARRAYS),
    Role("network of a detector", 70, ("run/detector/model.keras",), _PREDICT, (mangling.keras_archive,) * 6),
    Role("density, thresholds", 60, ("run/detector/*.npz",), _PREDICT, _ARRAYS * 2),
    Role("density for each location", 40, ("patches/detector/*.np[zy]",), _PATCHES, _ARRAYS),
    Role("memory of patches", 40, ("memory/detector/*.npz",), _MEMORY, _ARRAYS),
    Role("export", 40, ("export/**/*.*",), _EXPORT),
    Role("cached features", 40, ("run/embeddings/*.npz", "run/train_embeddings.npz"), _EVAL, _ARRAYS, is_equal=True),
)


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 2) -> None:
    """Adds a row for each role.

    Args:
        tally: to add to.
        place: folder for the trials.
        share: part of the 1,000 trials.
        seed: of the generator.
        jobs: processes at a time.
    """
    shutil.rmtree(place, ignore_errors=True)
    master = _master(place / "master")
    rows = {role.name: Row("inputs", role.name) for role in ROLES}
    reference = _scores(master / "run/eval/scores.csv")

    def trials() -> Iterator[tuple[Running, float, Callable[[Ended], None]]]:
        for number, role in enumerate(ROLES):
            say(f"{role.name}: {max(1, round(share * role.trials))} trials.")
            for index in range(max(1, round(share * role.trials))):
                rng = np.random.default_rng([seed, number, index])
                folder = place / f"trial{number}_{index}"
                shutil.copytree(master, folder, symlinks=True)
                what = _mangle(folder, role, rng)
                before = _listing(folder)
                words = [word.format(place=folder) for word in role.words]
                then = functools.partial(
                    _judge, rows[role.name], role, folder, f"{what} (trial {index})", before, reference
                )
                yield Running(words, folder, _limited), _WALL, then

    forked.together(trials(), jobs)
    for row in rows.values():
        tally.add(row)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 5))
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"


def _master(place: Path) -> Path:
    """The files of a trial: a category, weights, a run, and one that was stopped."""
    place.mkdir(parents=True)
    toys.draw_category(place / "set")
    run = forked.run(("train", f"--data={place}/set", f"--output_dir={place}/run", "--epochs=0", *TOY), place)
    evaluated = forked.run(("eval", f"--run_dir={place}/run"), place)
    stopped = forked.run(functools.partial(_stopped, place), place)
    patches = ("--patch_size=32", "--extract_size=16", "--stride=16", "--dense=exact")
    train = ("train", f"--data={place}/set", "--epochs=0", *TOY, *patches)
    located = forked.run((*train, f"--output_dir={place}/patches", "--density_mode=per_location"), place)
    memory = forked.run((*train, f"--output_dir={place}/memory", "--density=nearest", "--coreset=10"), place)
    exported = forked.run(("export", f"--run_dir={place}/run", f"--output={place}/export"), place)
    for ended in (run, evaluated, stopped, located, memory, exported):
        if ended.code:
            raise RuntimeError(str(ended))
    forked.run(functools.partial(_write_weights, place), place)
    for name in (".out", ".err"):
        (place / name).unlink()
    return place


def _stopped(place: Path) -> None:
    """Trains two of six steps."""
    from cutpaste_tf import train
    from cutpaste_tf.errors import SignalError
    from cutpaste_tf.settings.config import Config
    from cutpaste_tf.training import checkpoint

    save = checkpoint.save

    def save_and_stop(classifier: object, path: Path, step: int) -> None:
        save(classifier, path, step)  # pyright: ignore[reportArgumentType]
        if step == 2:
            raise SignalError(15)

    checkpoint.save = save_and_stop
    config = Config.of(
        data=str(place / "set"), backbone="toy", image_size=32, batch_size=6, scar_max_length=20, stem="imagenet",
        head_dims=(16, 8), epochs=2, steps_per_epoch=3,
    )  # fmt: skip
    with contextlib.suppress(SignalError):
        train(config, place / "stopped", checkpoint_minutes=0)


def _write_weights(place: Path) -> None:
    from safetensors.numpy import save_file

    from cutpaste_tf.networks import weights

    rng = np.random.default_rng(0)
    # Half of the widths would be another network, so these are its shapes, with values that take little room.
    stored = {
        name: np.full(shape, rng.normal(0, 0.01), np.float32)
        for name, shape in weights.resnet18_shapes("imagenet").items()
    }
    np.savez_compressed(place / "weights.npz", **stored)  # pyright: ignore[reportArgumentType]
    save_file(
        {name: array[:0] if "layer4" in name else array for name, array in stored.items()},
        place / "weights.safetensors",
    )


def _mangle(folder: Path, role: Role, rng: np.random.Generator) -> str:
    """Mangles one of a role's files; returns how."""
    files = sorted(path for pattern in role.files for path in folder.glob(pattern))
    path = files[rng.integers(len(files))]
    is_image = path.suffix == ".png"
    how = rng.random()
    if path.is_dir():
        path.rmdir() if not any(path.iterdir()) else shutil.rmtree(path)
        return f"no folder {path.name}"
    if is_image and how < 0.3:
        path.write_bytes(mangling.image(rng))
        return f"odd image in place of {path.name}"
    if is_image and how < 0.45 and "ground_truth" not in str(path):
        name = mangling.odd_name(rng)
        path.rename(path.with_name(name))
        return f"image named {name!r}"
    if how > 0.95:
        return f"{mangling.special_file(rng, path)} in place of {path.name}"
    every = mangling.ANY if path.suffix == ".npy" else (*mangling.ANY, *role.mangle)
    change = every[rng.integers(len(every))]
    path.write_bytes(change(rng, path.read_bytes()))
    return f"{change.__name__}: {path.name}"


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


_ALLOWED = ("run", "new", "stopped", "scores.csv", ".out", ".err", "home", "tmp", "cwd")


def _judge(
    row: Row, role: Role, folder: Path, what: str, before: set[str], reference: list[list[str]], ended: Ended
) -> None:
    """Counts a trial, and removes its folder unless it failed."""
    row.count(failure := _failure(role, folder, before, reference, ended))
    if failure:
        row.failures[-1] = f"{what}: {failure}"
        say(f"  {what}")
        (folder / "what.txt").write_text(what + "\n" + failure, errors="backslashreplace")
    else:
        shutil.rmtree(folder)


def _failure(role: Role, folder: Path, before: set[str], reference: list[list[str]], ended: Ended) -> str:
    if ended.code in (None, -signal.SIGXCPU):
        return f"took more than {LIMIT} s"
    if ended.code == 2 and not ended.is_refusal:
        return f"not one line: {ended.last_line}"
    if ended.code not in (0, 2) and not (ended.code == 1 and role.words[0] == "predict" and _is_told(folder)):
        return ended.last_line
    if "Traceback" in ended.err + ended.out:
        return "a traceback"
    new = _listing(folder) - before
    strays = [name for name in new if Path(name).parts[0] not in _ALLOWED or name.startswith(("tmp/", "cwd/"))]
    if strays:
        return f"files outside: {strays}"
    if ended.code == 0 and role.words[0] in ("eval", "predict"):
        path = folder / ("run/eval/scores.csv" if role.words[0] == "eval" else "scores.csv")
        scores = _scores(path)
        if any(not np.isfinite(float(score)) for _, score in scores if score):
            return f"scores that are not finite: {scores}"
        if role.is_equal and scores != reference:
            return "other scores"
    return ""


def _is_told(folder: Path) -> bool:
    """Whether prediction wrote a row with an error, for which its exit code is 1."""
    path = folder / "scores.csv"
    if not path.is_file():
        return False
    with path.open(newline="", errors="surrogateescape") as file:
        return any(row.get("error") for row in csv.DictReader(file))


def _scores(path: Path) -> list[list[str]]:
    with path.open(newline="", errors="surrogateescape") as file:
        return [[row["path"], row["score"]] for row in csv.DictReader(file)]
