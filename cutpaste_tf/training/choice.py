"""Chooses features, density and image score from normal images alone.

Some normal images are held out. Each candidate is fitted to the others and scores the held-out images with made-up
anomalies: scars, and small or faint patches, spots and shapes. Every candidate finds large and strong anomalies, so
these would decide nothing. Candidates are ranked by how many anomalies they find at 1 % false alarms. The choice is the
mean of the standardized scores of the best three, which is more certain than the best (docs/log/choice.md). One pass
through the network for patches and one for whole images serve all candidates. Test images are not read.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from cutpaste_tf import environment, files
from cutpaste_tf.detection import calibration
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import regions, sources
from cutpaste_tf.progress import Report, say
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings import config as configs
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import candidates, preparation
from cutpaste_tf.training.candidates import Candidate
from cutpaste_tf.training.train import train

CHOSEN = (*configs.CHOSEN, "combine")
UNTRAINED: dict[str, Any] = {"epochs": 0, "head_epochs": 0}
_TRAINED = "trained"  # folder of the run that trains a network to choose


def choose(
    config: Config, output_dir: str | Path, *, table: str = "choice", tfds_data_dir: str = "", report: Report = say
) -> tuple[Config, list[Candidate]]:
    """Ranks candidates and writes choice.csv and choice.png.

    Args:
        config: configuration of a run that trains nothing, with defaults for CHOSEN.
        output_dir: the run's folder, created if missing.
        table: name of the files, without suffix.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
        report: receives lines for the user.

    Returns:
        The configuration with the chosen settings, and all candidates, best first.

    Raises:
        InputError: before any long work, if the run would train, if a setting that should be chosen is given, or if
            there are too few images.
    """
    environment.check()
    output_dir = Path(output_dir).expanduser()
    _check(config, tfds_data_dir)
    config = preparation.with_size(config, output_dir, tfds_data_dir, report)
    resolved = config.resolved()
    items = preparation.checked_items(config, output_dir, tfds_data_dir, report)
    examples = preparation.read(items, resolved, report)
    preparation.validation(resolved, examples, report)  # for its errors
    groups = calibration.groups(TrainingData.of(examples), resolved.density.group_by)
    held_out, fitted = candidates.split(np.arange(len(examples.images)) if groups is None else groups, config.seed)
    normal = examples.images[held_out]
    anomalies = candidates.made_up(normal, config.seed)
    if resolved.data.reading.region:
        inside = regions.inside(normal)
        anomalies = {kind: np.stack([*map(regions.blank, pictures, inside)]) for kind, pictures in anomalies.items()}
    report(f"Choosing by {len(anomalies)} kinds of made-up anomalies on {len(normal)} held-out normal images.")
    images = {candidates.FITTED: examples.images[fitted], candidates.NORMAL: normal, **anomalies}
    measured = candidates.measured(config, images, None if groups is None else groups[fitted], report)
    ranked = sorted(measured, key=lambda candidate: -candidate.mean_power)
    _write(output_dir, table, ranked)
    chosen = sorted(candidates.best(ranked), key=lambda candidate: "patch_size" not in candidate.settings)
    settings = {**chosen[0].settings, "combine": "; ".join(map(_as_text, chosen[1:]))}
    names = ", ".join(f"{candidate.name} ({candidate.mean_power:.1f} %)" for candidate in chosen)
    report(
        f"Chosen from {len(ranked)} by how much they find at 1 % false alarms: {names}; together they find "
        f"{candidates.power_together(ranked):.1f} %. All: {output_dir}/{table}.csv, {table}.png"
    )
    report("As flags: " + " ".join(f"--{name}={shlex.quote(str(value))}" for name, value in settings.items()))
    return config.replaced(**settings), ranked


def train_and_choose(
    config: Config, output_dir: Path, *, tfds_data_dir: str = "", report: Report = say, **options: Any
) -> Config:
    """Trains a network, and chooses between it and the same network before training, by what each finds.

    Each network is judged by what its best candidates find together, as in `choose`. Training goes to
    output_dir/trained, the ranking of that network's candidates to trained_choice.csv and .png.

    Args:
        config: configuration of a run that trains, with defaults for CHOSEN.
        output_dir: the run's folder, created if missing.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets; empty for its default.
        report: receives lines for the user.
        options: further arguments of `train`.

    Returns:
        The configuration with the chosen settings. It takes the network from output_dir/trained, or trains nothing.

    Raises:
        InputError: as in `choose` and `train`.
    """
    given: Any = {"tfds_data_dir": tfds_data_dir, "report": report}
    untrained, before = choose(config.replaced(**UNTRAINED), output_dir, **given)
    place = output_dir / _TRAINED
    train(config, place, **given, **options)
    trained, after = choose(config.replaced(network_of=str(place)), output_dir, table="trained_choice", **given)
    powers = candidates.power_together(after), candidates.power_together(before)
    found = f"{powers[0]:.1f} % of the made-up anomalies are found with it, {powers[1]:.1f} % without"
    if powers[0] > powers[1]:
        report(f"Training pays: {found}.")
        return trained
    report(f"Training does not pay: {found}. The detector uses the network before training.")
    return untrained


def _as_text(candidate: Candidate) -> str:
    return " ".join(f"{name}={value}" for name, value in candidate.settings.items())


def reason_against(config: Config, tfds_data_dir: str = "") -> str:
    """Why nothing can be chosen for a run, judged without reading images; empty if nothing speaks against it.

    Raises:
        InputError: there are no images.
    """
    if config.resolved().schedule.total_steps and not config.network.network_of:
        return "--choose is for networks that this run does not train; add --epochs=0."
    if config.features.tile_size:
        return (
            "--choose needs whole images: choose on small ones (--image_size), then give the flags it prints together "
            "with the tiles."
        )
    count = len(sources.list_train(config.data.data, config.data, tfds_data_dir=tfds_data_dir))
    return candidates.too_few(count) if count < candidates.LEAST else ""


def _check(config: Config, tfds_data_dir: str) -> None:
    if reason := reason_against(config, tfds_data_dir):
        raise InputError(reason)
    values = config.flat()
    changed = [field.name for field, _ in leaves(Config) if values[field.name] != field.default]
    if given := ", ".join(f"--{name}" for name in changed if name in CHOSEN):
        raise InputError(f"{given} cannot be given with --choose, which decides this; omit one or the other.")


def _write(folder: Path, table: str, ranked: list[Candidate]) -> None:
    """Writes `table`.csv and .png, with a row for each candidate, best first."""
    from cutpaste_tf.pictures import plots  # matplotlib is slow to load

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for rank, candidate in enumerate(ranked, 1):
        row = {"rank": rank, "feature": candidate.settings["feature"], "density": candidate.density}
        row |= {"image_score": candidate.settings.get("image_score", ""), "power": f"{candidate.mean_power:.2f}"}
        row |= {kind: f"{power:.1f}" for kind, power in candidate.power.items()}
        rows.append({**row, "seconds": f"{candidate.seconds:.1f}"})
    files.write_csv(folder / f"{table}.csv", rows)
    values = {candidate.name: candidate.mean_power for candidate in ranked}
    plots.save_bars(folder / f"{table}.png", values, "made-up anomalies found at 1 % false alarms, in percent")
