"""Any combination of flags gives a run that trains two steps, or a one-line error."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies

from benchmarks import toys
from benchmarks.faults import forked
from benchmarks.faults.inputs import TOY
from benchmarks.faults.tally import Row, Tally
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import Config

_SECONDS = 120  # of computing, which EfficientNet takes to build its step
_REFUSED = 0.04  # part of the values that are not allowed, so that most runs of six settings have none
_KINDS = ((), ("--patch_size=16", "--extract_size=16", "--stride=8"), ("--density=nearest", "--feature=layer1,layer2"))
# Values whose type does not say what they mean: allowed, and not.
_VALUES: dict[str, tuple[tuple[object, ...], tuple[object, ...]]] = {
    "data": (("{place}/set", "{place}/set/train/good"), ("nowhere", "demo/nothing", "")),
    "test_data": (("", "{place}/set"), ("nowhere",)),
    "weights": (("",), ("nowhere.npz",)),
    "saliency_weights": (("",), ("nowhere.npz",)),
    "region": (("", "{place}/mask.png"), ("{place}/set/ground_truth/square", "nowhere.png")),
    "image_size": (("32", "64", "32,48", "40,auto", "auto"), ("33", "0", "-5", "x", "32,", "32,48,64")),
    "tile_size": (("0", "32", "40", "48,32"), ("7", "x")),
    "head_dims": (("16,8", "", "8"), ("0", "-1", "a,b", "1000000000000")),
    "background": (("0,0,0", "255,255,255"), ("255,255", "300,0,0", "x")),
    "combine": (("", "density=kde", "feature=layer2"), ("nothing=1", "density", ";;")),
    "normal_name": (("good",), ("ok", "", "../x")),
    "feature": (("pool", "layer1", "layer2", "layer1,layer2"), ("conv9", "layer1,layer1", "")),
    "add_normal": (("",), ("{place}/set/test/good", "{place}/set/train/good", "nowhere")),
    "network_of": (("",), ("nowhere", "{place}")),
    "epochs": ((0, 1, 2), (-2,)),
    "steps_per_epoch": ((1, 2, 3), (0, -1)),
    "head_epochs": ((0, 1), (-2, 5)),
    "batch_size": ((0, 3, 6, 12), (1, 7, -3)),
    "patch_size": ((0, 16, 24, 32), (33, 64, -1)),
    "extract_size": ((16, 32), (0, 8, 48)),
    "stride": ((1, 4, 8, 16), (0, 5)),
    "coreset": ((1, 5, 100), (0,)),
    "density_mode": (("auto", "shared", "per_location"), ("none_of_these",)),
}
_BACKBONES = ("toy",) * 20 + ("resnet18", "efficientnet_b0", "resnet19")


def _values(field: Any) -> strategies.SearchStrategy[str]:
    """Values of a setting, as a flag takes them; a small part is not allowed."""
    low, high, above = field.metadata["range"]
    if field.name == "backbone":
        return strategies.sampled_from(_BACKBONES)
    if field.name in _VALUES:
        return _mostly(*_VALUES[field.name])
    if choices := field.metadata["choices"]:
        return _mostly([*choices], ["none_of_these"])
    if isinstance(field.default, bool):
        return strategies.sampled_from(["true", "false"])
    bounds = [bound for bound in (low, high, above) if abs(bound) < 1e9]
    near = {field.default, *((0, 1, 2) if not bounds else ()), *(b + step for b in bounds for step in (-1, 0, 1))}
    allowed = sorted(value for value in near if low <= value <= high and value > above)
    others: list[object] = [value for value in sorted(near) if value not in allowed]
    if isinstance(field.default, int):
        return _mostly([int(value) for value in allowed], [*others, "x"])
    return _mostly(allowed, [*others, "1e-9", "1e9", "nan", "inf", "-inf"])


def _mostly(allowed: Sequence[object], others: Sequence[object]) -> strategies.SearchStrategy[str]:
    """A value, with the probability `_REFUSED` one that is not allowed."""
    often = max(1, round(len(others) / len(allowed) / _REFUSED))
    return strategies.sampled_from([str(value) for value in [*allowed] * often + [*others]])


def flags_of_runs() -> strategies.SearchStrategy[list[str]]:
    """Flags of train_main.py: a kind of detector, and up to six settings."""
    values = {field.name: _values(field) for field, _ in leaves(Config)}
    names = strategies.lists(strategies.sampled_from(sorted(values)), min_size=1, max_size=6, unique=True)
    settings = names.flatmap(
        lambda chosen: strategies.tuples(*(values[name] for name in chosen)).map(
            lambda drawn: [f"--{name}={value}" for name, value in zip(chosen, drawn, strict=True)]
        )
    )
    return strategies.tuples(strategies.sampled_from(_KINDS), settings).map(lambda drawn: [*drawn[0], *drawn[1]])


def count(tally: Tally, place: Path, *, share: float = 1.0, seed: int = 0, jobs: int = 1) -> None:
    """Adds a row of 500 combinations."""
    del jobs  # Hypothesis tries one after the other
    shutil.rmtree(place, ignore_errors=True)
    toys.draw_category(place / "set")
    toys.write_image(place / "mask.png", _mask())
    row, trained = Row("settings", "combinations of flags"), 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(1, round(500 * share)),
        phases=[hypothesis.Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )
    @hypothesis.given(flags_of_runs())
    def try_flags(given: list[str]) -> None:
        nonlocal trained
        words = [*TOY, "--epochs=1", "--steps_per_epoch=2", *(word.format(place=place) for word in given)]
        run = place / f"run{row.trials}"
        ended = forked.run(
            ("train", f"--data={place}/set", f"--output_dir={run}", *words), place, limit=400, before=_limited
        )
        trained += ended.code == 0
        is_right = ended.is_refusal or (
            ended.code == 0 and (run / "detector").is_dir() and "Traceback" not in ended.err
        )
        late = "took too long" if ended.code in (None, -signal.SIGXCPU) else ended.last_line
        row.count("" if is_right else f"{' '.join(given)}: {late}")
        shutil.rmtree(run, ignore_errors=True)

    try_flags()
    row.note = f"{trained} trained, {row.trials - trained} were refused in one line"
    tally.add(row)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 5))


def _mask() -> np.ndarray:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:35, 5:35] = 255
    return mask
