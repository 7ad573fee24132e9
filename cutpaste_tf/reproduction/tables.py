"""The runs and evaluations that make up each table of the paper (Section 4, 5, Appendix B).

A run belongs to no table. It is defined by its settings, a category and a seed, so columns of different tables with the
same settings use the same runs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cutpaste_tf.images import prepared
from cutpaste_tf.images.synthetic import FILLS, SHAPES

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = ("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper")
CATEGORIES = (*TEXTURES, *OBJECTS)
# Shapes and fills of Table 6 and Figure 6, in the paper's order; digits have only a color.
SYNTHETIC = [(shape, fill) for fill in FILLS for shape in SHAPES if (shape, fill) != ("mnist", "image")]
GROUPS = {"texture": TEXTURES, "object": OBJECTS, "all": CATEGORIES}
CIFAR10 = "cifar10"  # both the table and the set


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        settings: settings of its runs that differ from the defaults.
        evaluation: flags of eval_main.py for the evaluation.
        folder: folder of the evaluation in the run's folder.
        metric: key in metrics.json.
        ensemble: whether it is one AUC, of the mean of all seeds' log densities, instead of a mean of AUCs.
        random: whether it depends on the seed; otherwise there is only one run.
        row: the row it belongs to in Table 6, whose rows are models; in other tables rows are categories.
    """

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: tuple[str, ...] = ("--noheat_maps",)
    folder: str = "eval"
    metric: str = "image_auroc"
    ensemble: bool = False
    random: bool = True
    row: str = ""


def _task(name: str) -> Column:
    return Column({"proxy_task": name})


def _synthetic(model: Column, row: str) -> dict[str, Column]:
    """Table 6 for a model: shapes filled with a random color, then with natural images (Section 5.3)."""
    columns = {}
    for shape, fill in SYNTHETIC:
        flags = ("--noheat_maps", f"--synthetic={shape}", f"--synthetic_fill={fill}")
        name = f"{row} {shape}" + ("_natural" if fill == "image" else "")
        columns[name] = dataclasses.replace(model, evaluation=flags, folder=f"eval_{shape}_{fill}", row=row)
    return columns


_TRANSFER = {"backbone": "efficientnet_b4", "weights": "imagenet"}
_UNTRAINED = {**_TRANSFER, "epochs": 0}
# Untrained networks, which are not in the paper: one with batch norm as initialized (mean 0 and variance 1, so a
# feature does not depend on an image's brightness), and one with batch norm's statistics from the training images.
_BASELINES = {
    "untrained": Column({"epochs": 0}),
    "untrained_calibrated": Column({"epochs": 0, "calibrate_batch_norm": True}),
}
_LOCALIZED: dict[str, Any] = {"evaluation": ("--heat_maps",), "folder": "eval_localized"}
_LEVEL7: dict[str, Any] = {"evaluation": ("--noheat_maps", "--feature=level7"), "folder": "eval_level7"}
# The split is used as it is: test images that are also among the training images of the class stay in.
_AS_PUBLISHED: dict[str, Any] = {"evaluation": ("--noheat_maps", "--allow_trained_images")}

# Table numbers are the paper's; its results on CIFAR-10, given in the text, have a name instead.
TABLES: dict[int | str, dict[str, Column]] = {
    1: {
        **{name: _task(name) for name in ("rotation", "cutout", "scar", "cutpaste", "cutpaste_scar", "cutpaste_3way")},
        "ensemble": Column({"proxy_task": "cutpaste_3way"}, ensemble=True),
        **_BASELINES,
    },
    2: {
        "cutpaste_3way": Column({"patch_size": 64}, metric="pixel_auroc", **_LOCALIZED),
        "gradcam": Column({"proxy_task": "cutpaste_3way"}, metric="pixel_auroc", **_LOCALIZED),
        **{
            name: Column({"patch_size": 64, **column.settings}, metric="pixel_auroc", **_LOCALIZED)
            for name, column in _BASELINES.items()
        },
    },
    3: {
        "pool_pretrained": Column(_UNTRAINED, random=False),
        "pool_finetuned": Column(_TRANSFER),
        "level7_pretrained": Column(_UNTRAINED, random=False, **_LEVEL7),
        "level7_finetuned": Column(_TRANSFER, **_LEVEL7),
    },
    4: {name: _task(name) for name in ("cutout", "cutout_mean", "cutout_color", "confetti", "cutpaste")},
    5: {
        "cutpaste": _task("cutpaste"),
        "cutpaste_scar": _task("cutpaste_scar"),
        "union": _task("cutpaste_union"),
        "cutpaste_3way": _task("cutpaste_3way"),
    },
    6: {**_synthetic(_task("cutout"), "cutout"), **_synthetic(_task("cutpaste_3way"), "cutpaste_3way")},
    7: {
        **{f"lr_{rate}": Column({"learning_rate": rate}) for rate in (0.1, 0.03, 0.01, 0.003)},
        **{f"epochs_{epochs}": Column({"epochs": epochs}) for epochs in (128, 192, 256, 320, 384)},
    },
    8: {
        **{f"jitter_{jitter}": Column({"patch_jitter": jitter}) for jitter in (0.0, 0.1, 0.2, 0.3)},
        **{f"max_area_{area}": Column({"max_patch_area": area}) for area in (0.1, 0.15, 0.2, 0.3)},
    },
    CIFAR10: {name: dataclasses.replace(_task(name), **_AS_PUBLISHED) for name in ("cutout", "cutpaste", "rotation")},
}
TITLES: dict[int | str, str] = {
    1: "Detection, image AUROC",
    2: "Localization, pixel AUROC",
    3: "EfficientNet-B4 before and after fine-tuning, image AUROC",
    4: "From Cutout to CutPaste, image AUROC",
    5: "Binary or 3-way classification, image AUROC",
    6: "Synthetic anomalies, image AUROC",
    7: "Learning rate and number of epochs, image AUROC",
    8: "Color jitter and size of the patch, image AUROC",
    CIFAR10: "CIFAR-10, one class against the others, image AUROC (Section 5.4)",
}


def name(table: int | str) -> str:
    """A table's name, as used for its files."""
    return f"table{table}" if isinstance(table, int) else table


def title(table: int | str) -> str:
    """A table's heading."""
    return f"Table {table}: {TITLES[table]}" if isinstance(table, int) else TITLES[table]


def groups(table: int | str) -> dict[str, tuple[str, ...]]:
    """The groups of categories for which a table has means; the last group has all categories."""
    if table == CIFAR10:
        return {"all": tuple(f"{CIFAR10}/{name}" for name in prepared.CIFAR10)}
    return GROUPS


# A scale's values replace these (A.1); other values in Table 7 are changed in proportion.
PROPORTIONAL = {"epochs": 256, "learning_rate": 0.03}
# Settings of each scale that replace the paper's. `short` is for a night on a CPU, where a learning rate of 0.03 takes
# longer to leave chance than the whole schedule lasts (docs/log/learning-curves.md); `tiny` is for tests.
SCALES: dict[str, dict[str, Any]] = {
    "paper": {},
    "short": {
        "image_size": 128,
        "stem": "imagenet",
        "batch_size": 36,
        "steps_per_epoch": 128,
        "epochs": 4,
        "learning_rate": 0.003,
    },
    "tiny": {"image_size": 64, "stem": "imagenet", "epochs": 1, "steps_per_epoch": 1, "batch_size": 12},
}
