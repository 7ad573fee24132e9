"""The published hyperparameters beside ours; and the settings and figures of runs beside each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf import runs
from cutpaste_tf.reproduction.plan import metrics_of
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.scoring import DEFAULT_RATE

# What the paper says (A.1 to A.5, and the sections and tables named in a setting's source), by the names of our
# settings; in words if it is not one of our values. The paper says nothing about settings that are not listed.
PUBLISHED: dict[str, Any] = {
    "image_size": (256, 256),
    "proxy_task": "cutpaste_3way",
    "patch_size": 0,
    "translate": "some",
    "base_jitter": "some",
    "share_base_augmentation": "one x for all views",
    "min_patch_area": 0.02,
    "max_patch_area": 0.15,
    "min_aspect_ratio": 0.3,
    "max_aspect_ratio": 3.3,
    "aspect_sampling": "(0.3, 1) U (1, 3.3)",
    "patch_jitter": 0.1,
    "scar_min_width": 2,
    "scar_max_width": 16,
    "scar_min_length": 10,
    "scar_max_length": 25,
    "scar_rotation": 45.0,
    "backbone": "resnet18",
    "weights": "",
    "freeze_batch_norm": "no",
    "head_dims": "MLP",
    "epochs": 256,
    "head_epochs": 0,
    "steps_per_epoch": 256,
    "batch_size": 96,
    "learning_rate": 0.03,
    "head_learning_rate": 0.03,
    "momentum": 0.9,
    "l2": 3e-5,
    "feature": "pool",
    "extract_size": 32,
    "stride": 4,
    "density": "gaussian",
    "reg_covar": "scikit-learn's",
    "density_mode": "by category",
    "smoothing_sigma": "some",
    "image_score": "patches",
}
# What differs for other models: a heading -> the settings that make it such a model, and what the paper says about it.
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "EfficientNet-B4, fine-tuned (Section 4.3, A.4)": (
        {"backbone": "efficientnet_b4", "weights": "imagenet"},
        {
            "backbone": "efficientnet_b4",
            "weights": "imagenet",
            "freeze_batch_norm": "yes",
            "normalization": "by sqrt(std)?",
            "drop-connect": "on?",
            "epochs": 64,
            "head_epochs": 10,
            "batch_size": 24,
            "learning_rate": 0.0001,
            "head_learning_rate": 0.03,
        },
    ),
    "rotation, a baseline of four classes (Section 4.1)": ({"proxy_task": "rotation"}, {"proxy_task": "rotation"}),
    "two classes (A.1)": ({"proxy_task": "cutpaste"}, {"proxy_task": "cutpaste", "batch_size": 64}),
    "patches (Sections 2.4, 4.2, A.5)": (
        {"patch_size": 64, "data": "bottle"},
        {"patch_size": 64, "density_mode": "per_location"},
    ),
    "patches, objects not aligned, or textures (A.5)": (
        {"patch_size": 64, "data": "carpet"},
        {"patch_size": 64, "density_mode": "shared"},
    ),
}
_NOT_COMPARED = ("data", "test_data", "seed")
# For settings whose source does not say whose value it is: (name, our value) -> what to show instead.
_WHOSE = {
    ("share_base_augmentation", "True"): "our reading of Eq. 1, 3",
    ("base_jitter", "0.1"): "A.1; our size, same as the patch's",
    ("aspect_sampling", "union"): "our reading of A.2: a fair coin between the two",
    ("batch_size", "128"): "DROC's rule: 32 of each class; A.1 gives none for four",
    ("normalization", "imagenet"): "ours, by std; TensorFlow up to 2.5 divided EfficientNet's by its root (#49930)",
    ("drop-connect", "off"): "ours; A.4 follows a Keras guide whose code leaves it on",
}
# Differences from the paper's model that are not settings.
_FIXED = {"drop-connect": "off"}
# Values that stand for others.
_MEANT = {
    ("false_alarm_rate", "0.0"): f"{DEFAULT_RATE:g}",
    ("kde_bandwidth", "0.0"): "sqrt(d * variance / 20)",
    ("density_mode", "auto"): "by category",
}


def compared_settings() -> list[str]:
    """A line for each setting: name, the paper's value, our default, and where it comes from.

    The first lines are for an image model with a ResNet-18; then follows what differs for other models.
    """
    default = Config.of(data="category").resolved().flat()
    sources = {field.name: field.metadata["source"] or "ours" for field, _ in leaves(Config)}
    names = [name for name in sources if name not in _NOT_COMPARED]

    def row(name: str, published: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, str, str, str]:
        value, paper = (_shown(name, of) for of in (ours[name], published.get(name, "silent")))
        return name, paper, _MEANT.get((name, value), value), _WHOSE.get((name, value)) or sources[name]

    lines = _aligned([("setting", "paper", "ours", "from"), *(row(name, PUBLISHED, default) for name in names)])
    for title, (settings, published) in OTHERS.items():
        ours = {**Config.of(**{"data": "category", **settings}).resolved().flat(), **_FIXED}
        changed = [name for name in (*names, *_FIXED) if name in published or ours[name] != {**default, **_FIXED}[name]]
        lines += ["", title, *_aligned([row(name, published, ours) for name in changed])]
    return lines


# Keys of metrics.json -> as they are shown.
_FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


def compared_runs(folders: Sequence[Path]) -> list[str]:
    """A line for each setting that differs between runs, open values filled in, and for each figure.

    Args:
        folders: of the runs.

    Raises:
        InputError: one is not the folder of a run.
    """
    settings = [Config.read(folder / "config.json").resolved().flat() for folder in folders]
    differing = [name for name in settings[0] if len({str(each[name]) for each in settings}) > 1]
    rows = [("setting", *map(str, folders))]
    rows += [(name, *(_shown(name, each[name]) for each in settings)) for name in differing]
    figures = [_figures(folder) for folder in folders]
    rows += [(title, *(each[key] for each in figures)) for key, title in _FIGURES.items()]
    return [*_aligned(rows), *([] if differing else ["All settings are the same."])]


def _figures(folder: Path) -> dict[str, str]:
    """The figures of the run's evaluation as trained, in percent; - where there is none."""
    metrics = metrics_of(folder / runs.EVAL) or {}
    return {key: "-" if metrics.get(key) is None else f"{metrics[key]:.2f}" for key in _FIGURES}


def _shown(name: str, value: Any) -> str:
    return sizes.as_flag(value) if name == "image_size" else str(value) or "-"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    return ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows]
