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

CHOSEN = (*configs.CHOSEN, "combine")


def choose(
    config: Config, output_dir: str | Path, *, tfds_data_dir: str = "", report: Report = say
) -> tuple[Config, list[Candidate]]:
    """Ranks candidates and writes choice.csv and choice.png.

    Args:
        config: configuration of a run that trains nothing, with defaults for CHOSEN.
        output_dir: the run's folder, created if missing.
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
    _write(output_dir, ranked)
    chosen = sorted(candidates.best(ranked), key=lambda candidate: "patch_size" not in candidate.settings)
    settings = {**chosen[0].settings, "combine": "; ".join(map(_as_text, chosen[1:]))}
    together = candidates.power(candidates.together(chosen))
    names = ", ".join(f"{candidate.name} ({candidate.mean_power:.1f} %)" for candidate in chosen)
    report(
        f"Chosen from {len(ranked)} by how much they find at 1 % false alarms: {names}; together they find "
        f"{np.mean([*together.values()]):.1f} %. All: {output_dir}/choice.csv, choice.png"
    )
    report("As flags: " + " ".join(f"--{name}={shlex.quote(str(value))}" for name, value in settings.items()))
    return config.replaced(**settings), ranked


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


def _write(folder: Path, ranked: list[Candidate]) -> None:
    """Writes choice.csv and choice.png, with a row for each candidate, best first."""
    from cutpaste_tf.pictures import plots  # matplotlib is slow to load

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for rank, candidate in enumerate(ranked, 1):
        row = {"rank": rank, "feature": candidate.settings["feature"], "density": candidate.density}
        row |= {"image_score": candidate.settings.get("image_score", ""), "power": f"{candidate.mean_power:.2f}"}
        row |= {kind: f"{power:.1f}" for kind, power in candidate.power.items()}
        rows.append({**row, "seconds": f"{candidate.seconds:.1f}"})
    files.write_csv(folder / "choice.csv", rows)
    values = {candidate.name: candidate.mean_power for candidate in ranked}
    plots.save_bars(folder / "choice.png", values, "made-up anomalies found at 1 % false alarms, in percent")
