"""How good `--choose` is: its candidates' power beside their image AUROC, and what the choice loses.

    python -m benchmarks.choosing --output_dir=FOLDER --sets=SET,SET,... [--moved=SET,...] [train_main's flags]

Candidates are fitted and ranked as by `--preset=quick`, and then also score the test images, which decide nothing. The
images of the sets in --moved are shrunk, turned by any angle and shifted, so that the part lies in a different place in
each. FOLDER/candidates.csv has every candidate, and FOLDER/regret.csv, for the mean of the best 1 to 5 candidates, the
points of image AUROC below the best single candidate, as picked by the test labels. `left_out` is the regret if the
number of candidates is the one with the lowest mean regret on the other sets. If the command is repeated, it skips the
sets that candidates.csv already has.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image
from scipy import stats

from cutpaste_tf import files
from cutpaste_tf.cli.flags import config_from_flags, define_config_flags
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation import metrics
from cutpaste_tf.images import reading, resizing, sources
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.progress import say
from cutpaste_tf.settings import config as configs
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import candidates

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_SETS = flags.DEFINE_list("sets", [], "Data sets, as in --data.")
_MOVED = flags.DEFINE_list("moved", [], "Data sets whose images are shrunk, turned and shifted.")
_MOST = 5  # candidates whose mean is judged
_TEST = "test"
define_config_flags()


def main(argv: list[str]) -> None:
    """Measures the sets, and writes the tables."""
    del argv
    folder = Path(_OUTPUT_DIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    defaults = Config.of().flat()
    config = config_from_flags("quick").replaced(**{name: defaults[name] for name in configs.CHOSEN})
    paths = folder / "candidates.csv", folder / "regret.csv"
    rows, regrets = (files.read_csv(path) if path.is_file() else [] for path in paths)
    every = [(data, data) for data in _SETS.value] + [(f"{data}, moved", data) for data in _MOVED.value]
    for name, data in every:
        if any(row["set"] == name for row in rows):
            continue
        of_set, regret = _measured(config.replaced(data=data), is_moved=name != data)
        rows += [{"set": name, **row} for row in of_set]
        regrets.append({"set": name, **regret})
        for row, regret in zip(regrets, _left_out(regrets), strict=True):
            row["left_out"] = regret
        say(f"{regrets[-1]}")
        for path, table in zip(paths, (rows, regrets), strict=True):
            files.write_csv(path, table)


def _measured(config: Config, *, is_moved: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a set's candidates, best first, and the set's regrets."""
    resolved = config.resolved()
    read = sources.read_train(config.data.data, resolved.data.size, config.data)
    tests = sources.read_test(config.data.data, resolved.data.size, config.data)
    training, testing = ((_moved(each) if is_moved else each.images) for each in (read, tests))
    groups, _ = reading.duplicate_groups(read.hashes)
    held_out, fitted = candidates.split(np.asarray(groups), config.seed)
    normal = training[held_out]
    images = {candidates.FITTED: training[fitted], candidates.NORMAL: normal}
    images |= {**candidates.made_up(normal, config.seed), _TEST: testing}
    found = candidates.measured(config, images, np.asarray(groups)[fitted], say)
    for candidate in found:
        del candidate.power[_TEST]  # no made-up anomaly
    ranked = sorted(found, key=lambda candidate: -candidate.mean_power)
    aurocs = [_auroc(tests, candidate.scores) for candidate in ranked]
    rows = [
        {"candidate": candidate.name, "power": f"{candidate.mean_power:.2f}", "image_auroc": f"{auroc:.2f}"}
        for candidate, auroc in zip(ranked, aurocs, strict=True)
    ]
    correlation: Any = stats.spearmanr([candidate.mean_power for candidate in ranked], aurocs)
    regret = {"rank_correlation": f"{correlation.statistic:.2f}", "best": f"{max(aurocs):.2f}"}
    for count in range(1, _MOST + 1):
        mean = candidates.together(candidates.best(ranked, count))
        regret[str(count)] = f"{max(aurocs) - _auroc(tests, mean):.2f}"
    return rows, regret


def _auroc(tests: Examples, scores: dict[str, np.ndarray]) -> float:
    auroc = metrics.auroc(tests.labels, scores[_TEST])
    if auroc is None:
        raise InputError("The test images must be normal and anomalous ones.")
    return auroc


def _left_out(regrets: list[dict[str, Any]]) -> list[str]:
    """Each set's regret for the number of candidates that is best on the others."""
    table = np.array([[float(row[str(count)]) for count in range(1, _MOST + 1)] for row in regrets])
    if len(table) < 2:
        return [""] * len(table)
    return [f"{row[np.delete(table, index, axis=0).mean(axis=0).argmin()]:.2f}" for index, row in enumerate(table)]


def _moved(examples: Examples) -> np.ndarray:
    """The images at 5/8 of their size, turned and shifted by up to 1/8 of the side; the border is continued."""
    height, width = examples.images.shape[1:3]
    moved = []
    for index, image in enumerate(examples.images):
        rng = np.random.default_rng([*examples.paths[index].encode()])
        angle, *shift = rng.uniform(0, 360), *rng.uniform(-1 / 8, 1 / 8, 2)
        padded = np.pad(image, ((height, height), (width, width), (0, 0)), mode="edge")
        turned = Image.fromarray(padded).rotate(angle, resample=Image.Resampling.BICUBIC)
        top, left = (int(side * (1.5 + part - 0.8)) for side, part in zip((height, width), shift, strict=True))
        crop = np.asarray(turned)[top : top + int(1.6 * height), left : left + int(1.6 * width)]
        moved.append(resizing.resized(crop[None], (height, width))[0])
    return np.stack(moved)


if __name__ == "__main__":
    app.run(main)
