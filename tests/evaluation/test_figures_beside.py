"""What the page says of an evaluation: names for people, facts that exist, settings that differ."""

import numpy as np

from cutpaste_tf.detection.calibration import Calibration
from cutpaste_tf.evaluation import decisions, figures
from cutpaste_tf.settings.config import Config

CONFIG = Config.of(image_size=32, scar_max_length=20, stem="small").resolved()


def _result(labels, config=CONFIG, **more):
    """What metrics.json holds, as far as it matters here."""
    labels, scores = np.array(labels), np.arange(len(labels)) * 1.0
    calibration = Calibration(np.arange(30.0), np.empty(0))
    decided = calibration.decide(scores, config.decision)
    result = {"image_auroc": None, "image_auroc_by_defect": {}, "pixel_gaussian_auroc": None, "steps": 9}
    result |= decisions.figures(calibration, decided, labels, ["x"] * len(labels), scores)
    result |= {f"test_{name}": int(np.sum(labels == label)) for name, label in
               (("normal", 0), ("anomalous", 1), ("unlabelled", -1))}  # fmt: skip
    return result | {"density": config.density.density, "train_images": 30, "settings": config.flat(), **more}


def test_facts_are_those_that_exist_by_names_for_people():
    facts = figures.facts(_result([-1, -1]))
    assert facts == {
        "threshold": "29",
        "false alarm rate": "0.05",
        "false alarm rate, 90 % interval of the true one": "0.0017 to 0.095",
        "normal images that set the threshold": "30",
        "images called anomalous": "0",
        "normal training images": "30",
        "unlabeled test images": "2",
        "training steps": "9",
        "--density": "gaussian",
    }
    labelled = figures.facts(_result([0, 0, 1]))
    assert labelled["false alarms among the normal images"] == "0.00 %"
    assert labelled["anomalous images called normal (misses)"] == "1"
    assert not any("_" in name for name in labelled if not name.startswith("--"))


def test_every_setting_that_differs_stands_beside():
    result = _result([0, 1])
    other = _result([0, 1], CONFIG.replaced(density="kde", proxy_task="scar", epochs=3, batch_size=64), steps=3)
    shown = {figure.name: figure.values for figure in figures.table(result, {"runs/x": other})}
    assert shown == {
        "training steps": ["9", "3"],
        "--density": ["gaussian", "kde"],
        "--proxy_task": ["cutpaste_3way", "scar"],
        "--epochs": ["256", "3"],
        "--batch_size": ["96", "64"],
    }
    assert "--density gaussian (kde)" in figures.line(result, {"runs/x": other})
    del other["settings"]  # an evaluation of 0.2: what both have
    shown = {figure.name: figure.values for figure in figures.table(result, {"runs/x": other})}
    assert set(shown) == {"training steps", "--density"}
    assert figures.table(result, {"runs/x": result}) == []
