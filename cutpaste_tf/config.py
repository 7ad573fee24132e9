"""The configuration of a run: every default is the paper's, every comment cites where it is from.

"A.1" is a section of the paper. "DROC" is the same authors' earlier code, the paper's reference
[52] (google-research/deep_representation_one_class), followed where the paper is silent.
This module imports no TensorFlow, so that bad input is refused at once.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import DataSettings

# The views a proxy task makes of each image, in the order of their class labels (`proxy_tasks.py`).
VIEWS: dict[str, tuple[str, ...]] = {
    "cutpaste_3way": ("normal", "cutpaste", "scar"),  # Section 2.2
    "cutpaste": ("normal", "cutpaste"),  # Section 2.1
    "cutpaste_scar": ("normal", "scar"),  # Section 2.2
    "cutpaste_union": ("normal", "cutpaste or scar"),  # Section 5.2, Table 5
    "rotation": ("0 degrees", "90 degrees", "180 degrees", "270 degrees"),  # Table 1
    "cutout": ("normal", "grey patch"),  # Tables 1 and 4
    "cutout_mean": ("normal", "mean color patch"),  # Table 4
    "cutout_color": ("normal", "random color patch"),  # Table 4
    "scar": ("normal", "random color scar"),  # Table 1
    "confetti": ("normal", "shifted color patch"),  # Table 4
    "cutswap": ("normal", "swapped salient patches"),  # the follow-up method of that name
}

# The choices among names; proxy_tasks.py, networks.py, patches.py and density.py hold what they stand for.
CHOICES: dict[str, tuple[str, ...]] = {
    "proxy_task": tuple(VIEWS),
    "backbone": ("resnet18", *(f"efficientnet_b{size}" for size in range(8))),
    "stem": ("auto", "imagenet", "small"),
    "normalization": ("auto", "none", "imagenet"),
    "freeze_batch_norm": ("auto", "yes", "no"),
    "precision": ("float32", "mixed_bfloat16"),
    "aspect_sampling": ("union", "uniform", "log_uniform"),
    "density": ("gaussian", "ledoit_wolf", "kde", "mixture"),
    "dense": ("exact", "fast"),
    "density_mode": ("auto", "shared", "per_location"),
    "image_score": ("map", "patches"),
}

# Categories whose objects lie in the same place in every image: a density for each location (A.5).
ALIGNED = ("bottle", "cable", "capsule", "metal_nut", "pill", "toothbrush", "transistor", "zipper")


def _setting(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


class Phase(NamedTuple):
    """A part of training with a learning rate cycle of its own.

    Attributes:
        start, end: its first step, and the one after its last.
        learning_rate: at its start; decays to 0 along one cosine cycle.
        head_only: whether the backbone is frozen.
    """

    start: int
    end: int
    learning_rate: float
    head_only: bool


# What decides scores but not training: can be given anew at evaluation.
EVALUATION_SETTINGS = ("feature", "density", "l2_normalize", "reg_covar", "kde_bandwidth", "mixture_components")
# What decides how test images are read: can be given anew, too.
READING_SETTINGS = ("normal_name", "max_megapixels", "invert_masks")
# The same as the first for a patch model only.
DENSE_SETTINGS = (
    "extract_size",
    "stride",
    "dense",
    "density_mode",
    "smoothing_sigma",
    "normalize_coverage",
    "image_score",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run's result; saved as `config.json` beside what it made.

    Raises:
        InputError: a value is out of its range, or a name is not known.
    """

    data: str = _setting(
        "",
        "Category folder in MVTec layout (train/good, test/*, ground_truth), folder with good/ beside DEFECT/, folder "
        "of normal images, demo/NAME, mvtec_ad/CATEGORY or cifar10/CLASS.",
    )
    test_data: str = _setting("", "Test images where --data has none: like --data, or good/ beside DEFECT/.")
    normal_name: str = _setting("good", "Name of the folders that hold normal images.")
    test_split: float = _setting(
        0.2, "Part of good/ that is held out for testing, where --data is good/ beside DEFECT/."
    )
    split_seed: int = _setting(0, "Seed of the part that is held out.")
    # 12-bit cameras store 0..4095 in files of 16 bits.
    white: int = _setting(
        0,
        "Value of files with more than 8 bits that becomes 255. 0: of 255, 1023, 4095, 16383, 65535 the smallest "
        "that holds the brightest training pixel.",
    )
    background: tuple[int, ...] = _setting((0, 0, 0), "Color, R,G,B of 0..255, seen through what is transparent.")
    max_megapixels: float = _setting(200.0, "Pictures with more million pixels are refused.")
    invert_masks: bool = _setting(False, "Masks are zero on the defect.")

    # Learning the representation: Sections 2.1, 2.2 and A.1; A.4 for EfficientNet.
    proxy_task: str = _setting("cutpaste_3way", "Classification task that learns the representation.")
    # A.1; CIFAR-10 as it is (Section 5.4).
    image_size: int = _setting(0, "Side in pixels that images are resized to; 0: 256, for cifar10 32.")
    # 0: Section 2.2; 64: Section 2.4, to localize defects.
    patch_size: int = _setting(0, "Side of the random crops to learn from, for a patch model; 0: whole images.")
    # A.3, bold: 65k steps; A.4.
    epochs: int = _setting(-1, "Epochs of all layers; with head_epochs 0, 0 trains nothing. -1: 256, EfficientNet 64.")
    head_epochs: int = _setting(-1, "Epochs of the head alone, before. -1: 0, EfficientNet 10.")  # A.4
    steps_per_epoch: int = _setting(256, "Parameter updates that make one epoch.")  # A.3, footnote 5
    # A.1: 64, 96 for 3-way, that is 32 a class; A.4: 24.
    batch_size: int = _setting(0, "Views in a step, all classes together. 0: 32 of each, EfficientNet 24 in all.")
    # A.1; A.4. Without warm-up, along one cosine cycle to 0 in each phase.
    learning_rate: float = _setting(0.0, "Initial learning rate for all layers. 0: 0.03, EfficientNet 0.0001.")
    head_learning_rate: float = _setting(0.03, "Initial learning rate for the head alone.")  # A.4
    momentum: float = _setting(0.9, "Momentum of SGD (no Nesterov).")  # A.1
    l2: float = _setting(3e-5, "L2 coefficient c: c * sum(w^2) / 2 is added to the loss.")  # A.1; halving: DROC
    l2_batch_norm: bool = _setting(True, "Whether L2 covers batch norm's gamma and beta.")  # DROC: all weights
    seed: int = _setting(0, "Seed of the initial weights and of the stream of views.")

    # Base augmentation, before any task's own: "random translation and color jitters" (A.1).
    translate: float = _setting(0.125, "Largest translation, as a part of the side (reflected border).")  # DROC
    base_jitter: float = _setting(0.1, "Color jitter of whole images: brightness, contrast, saturation, hue.")
    # Eq. 1 and 3 put the same augmented x, or crop c(x), into g(x) and g(CP(x)); DROC draws for each view.
    share_base_augmentation: bool = _setting(True, "One base augmentation, and crop, for all views of an image.")

    # CutPaste and CutPaste-Scar: A.2.
    min_patch_area: float = _setting(0.02, "Smallest CutPaste patch, as a part of the image's area.")
    max_patch_area: float = _setting(0.15, "Largest CutPaste patch, as a part of the image's area.")
    min_aspect_ratio: float = _setting(0.3, "Smallest height / width of a CutPaste patch.")
    max_aspect_ratio: float = _setting(3.3, "Largest height / width of a CutPaste patch.")
    # A.2's "(0.3, 1) U (1, 3.3)" read literally; torchvision's RandomErasing sampled uniformly, later log-uniformly.
    aspect_sampling: str = _setting("union", "Law of the aspect ratio.")
    patch_jitter: float = _setting(0.1, "Color jitter of the pasted patch; 0 turns it off (Table 8).")
    scar_min_width: int = _setting(2, "Smallest width of a scar in pixels.")
    scar_max_width: int = _setting(16, "Largest width of a scar in pixels.")
    scar_min_length: int = _setting(10, "Smallest length of a scar in pixels.")
    scar_max_length: int = _setting(25, "Largest length of a scar in pixels.")
    scar_rotation: float = _setting(45.0, "Largest rotation of a scar in degrees, either way.")
    saliency_weights: str = _setting("", "ImageNet ResNet-18 with classifier, for cutswap's saliency; or --weights.")

    # Network: Section 4, DROC for the head and the small stem.
    backbone: str = _setting("resnet18", "Backbone network.")  # EfficientNet: A.4
    stem: str = _setting("auto", "ResNet stem: imagenet 7x7/2 + max-pool, small 3x3/1; auto by the views' size.")
    weights: str = _setting("", "File of pretrained weights, or for EfficientNet imagenet; empty: from scratch.")
    normalization: str = _setting("auto", "Input normalization inside the model; auto: imagenet with --weights.")
    # A.4, after the Keras guide it names: those layers keep statistics, gamma and beta.
    freeze_batch_norm: str = _setting("auto", "Whether the backbone's batch norm is frozen; auto: in fine-tuning.")
    precision: str = _setting("float32", "Arithmetic of the networks; logits and features are float32 in any case.")
    head_dims: tuple[int, ...] = _setting((512, 128), "Widths of the projection head's layers.")

    # One-class classifier: Section 2.3; the defaults of scikit-learn's GaussianMixture, which A.1 names.
    # Section 4.3: pool and level 7 of EfficientNet.
    feature: str = _setting(
        "pool", "Feature: pool, level7 (EfficientNet), layer1..layer4 (ResNet-18), any layer's name."
    )
    density: str = _setting("gaussian", "Density fitted to the features of the normal training images.")
    l2_normalize: bool = _setting(True, "Scale features to unit length before the density.")  # DROC
    reg_covar: float = _setting(1e-6, "Ridge added to the covariance's diagonal (gaussian, mixture).")
    kde_bandwidth: float = _setting(0.0, "Bandwidth of kde; 0: sqrt(dimensions * variance / 20), DROC's.")
    mixture_components: int = _setting(5, "Gaussians of mixture.")

    # Localization by a patch model: Sections 2.4 and 4.2, A.5.
    extract_size: int = _setting(32, "Side of the patches that are scored.")  # A.5; Section 4.2 speaks of 64
    stride: int = _setting(4, "Pixels from one scored patch to the next.")  # Section 4.2
    dense: str = _setting("exact", "Patches one by one, or in one pass over the image.")
    density_mode: str = _setting("auto", "One density for all locations, or one each; auto: each if aligned (A.5).")
    smoothing_sigma: float = _setting(10.0, "Standard deviation of the upsampling kernel in pixels.")  # FCDD's
    normalize_coverage: bool = _setting(False, "Divide a heat map by the kernels' sum, which falls at the border.")
    # Figure 1 max-pools the patches' scores; the map's maximum, which no single odd patch decides, was measured better.
    image_score: str = _setting("map", "An image's score: the maximum of its heat map, or of its patches' scores.")

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"--{name}={value} is not known; it must be one of: {', '.join(known)}.")
        self._resolve()
        if self.proxy_task == "cutswap" and not self.saliency_weights and (self.is_efficientnet or not self.weights):
            raise InputError("--proxy_task=cutswap needs an ImageNet ResNet-18 for its saliency: --saliency_weights.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"--{field.name}={value} must be a finite number.")
        if not self.normal_name or "/" in self.normal_name or self.normal_name in ("train", "test", "ground_truth"):
            raise InputError(f"--normal_name={self.normal_name} must be the name of a folder, as good or ok.")
        if not 0 <= self.test_split < 1:
            raise InputError(f"--test_split={self.test_split} must lie in [0, 1): it is a part of the normal images.")
        if not 0 <= self.white <= 65535:
            raise InputError(f"--white={self.white} must be 1 to 65535, or 0 to take it from the images.")
        if len(self.background) != 3 or not all(0 <= value <= 255 for value in self.background):
            given = ",".join(map(str, self.background))
            raise InputError(f"--background={given} must be three numbers of 0..255, as 255,255,255.")
        if self.max_megapixels <= 0:
            raise InputError(f"--max_megapixels={self.max_megapixels} must be greater than 0.")
        self._check_at_least(1, "steps_per_epoch", "batch_size", "scar_min_width", "scar_min_length")
        self._check_at_least(
            0, "epochs", "momentum", "l2", "base_jitter", "patch_jitter", "reg_covar", "seed", "split_seed"
        )
        self._check_at_least(0, "scar_rotation", "head_epochs", "kde_bandwidth")
        self._check_at_least(1, "mixture_components")
        self._check_at_least(32, "image_size")
        self._check_at_least(0, "patch_size")
        self._check_at_most(4096, "image_size")
        self._check_at_most(2**31 - 1, "seed")
        self._check_at_most(90, "scar_rotation")
        if self.momentum >= 1:
            raise InputError(f"--momentum={self.momentum} must be less than 1.")
        for name in ("learning_rate", "head_learning_rate"):
            if getattr(self, name) <= 0:
                raise InputError(f"--{name}={getattr(self, name)} must be greater than 0.")
        if not 0 <= self.translate < 1:
            raise InputError(f"--translate={self.translate} must lie in [0, 1): it is a part of the image's side.")
        if max(self.base_jitter, self.patch_jitter) > 0.5:
            raise InputError("--base_jitter and --patch_jitter must be at most 0.5: half a turn of hue is every hue.")
        if not 0 < self.min_patch_area <= self.max_patch_area < 1:
            raise InputError("0 < --min_patch_area <= --max_patch_area < 1 must hold.")
        if not 0 < self.min_aspect_ratio <= 1 <= self.max_aspect_ratio:
            raise InputError("0 < --min_aspect_ratio <= 1 <= --max_aspect_ratio must hold.")
        if self.scar_min_width > self.scar_max_width or self.scar_min_length > self.scar_max_length:
            raise InputError("A scar's smallest width or length is greater than its largest.")
        if self.scar_max_width**2 + self.scar_max_length**2 > self.view_size**2:
            raise InputError(f"A rotated scar does not fit into {self.view_size} px; make it smaller.")
        if self.patch_size:
            self._check_dense()
        elif changed := [f"--{name}" for name in DENSE_SETTINGS if getattr(self, name) != getattr(Config, name)]:
            raise InputError(f"{', '.join(changed)}: only for patch models; give --patch_size=64 as well.")
        if not self.head_dims or min(self.head_dims) < 1:
            raise InputError(f"--head_dims={self.head_dims} must be one or more positive widths, as in 512,128.")
        if self.batch_size % len(self.views):
            nearest = max(1, self.batch_size // len(self.views)) * len(self.views)
            raise InputError(
                f"--batch_size={self.batch_size} is not divisible by the {len(self.views)} classes of "
                f"{self.proxy_task}; try --batch_size={nearest}."
            )

    def _check_dense(self) -> None:
        self._check_at_least(16, "patch_size", "extract_size")
        self._check_at_least(1, "stride")
        for name in ("patch_size", "extract_size"):
            if getattr(self, name) > self.image_size:
                raise InputError(f"--{name}={getattr(self, name)} is larger than --image_size={self.image_size}.")
        if self.stride > self.extract_size:
            raise InputError(f"--stride={self.stride} leaves gaps between patches of {self.extract_size} px; lower it.")
        room = self.image_size - self.extract_size
        if room % self.stride:
            raise InputError(
                f"Patches of {self.extract_size} px every {self.stride} px do not end at the border of "
                f"{self.image_size} px: --stride must divide {room}, the image_size less the extract_size."
            )
        if self.smoothing_sigma <= 0:
            raise InputError(f"--smoothing_sigma={self.smoothing_sigma} must be greater than 0.")
        if self.density != "gaussian":
            raise InputError(f"--density={self.density} is for whole images; a patch model takes gaussian.")
        if self.reg_covar == 0 and self.resolved_density_mode == "per_location":
            raise InputError("--density_mode=per_location needs --reg_covar greater than 0.")
        if self.dense == "fast" and self.is_efficientnet:
            raise InputError(
                "--dense=fast is for resnet18: EfficientNet's squeeze-and-excitation sees the whole image at once, so "
                "that its features would not belong to a place; take --dense=exact."
            )
        if self.dense == "fast" and self.resolved_stem == "imagenet" and self.stride % 4:
            raise InputError(
                f"--dense=fast with the ImageNet stem needs a --stride that is a multiple of 4, not {self.stride}: its "
                "max-pooling leaves a place every 4 pixels."
            )

    def _resolve(self) -> None:
        """Puts the paper's values for the backbone and the data where none are given."""
        efficient = self.is_efficientnet
        values = {
            "batch_size": (0, 24 if efficient else 32 * len(self.views)),
            "image_size": (0, 32 if self.data.startswith("cifar10/") else 256),
            "epochs": (-1, 64 if efficient else 256),
            "head_epochs": (-1, 10 if efficient and self.epochs else 0),
            "learning_rate": (0.0, 0.0001 if efficient else 0.03),
        }
        for name, (unset, value) in values.items():
            if getattr(self, name) == unset:
                object.__setattr__(self, name, value)  # the dataclass is frozen

    def _check_at_least(self, bound: int, *names: str) -> None:
        for name in names:
            if getattr(self, name) < bound:
                raise InputError(f"--{name}={getattr(self, name)} must be at least {bound}.")

    def _check_at_most(self, bound: int, name: str) -> None:
        if getattr(self, name) > bound:
            raise InputError(f"--{name}={getattr(self, name)} must be at most {bound}.")

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views of one image, in the order of their labels."""
        return VIEWS[self.proxy_task]

    @property
    def data_settings(self) -> DataSettings:
        """How folders and files are read."""
        names = {field.name for field in dataclasses.fields(DataSettings)}
        return DataSettings(**{name: value for name, value in vars(self).items() if name in names})

    @property
    def view_size(self) -> int:
        """Side in pixels of what the network is trained on: crops, or whole images."""
        return self.patch_size or self.image_size

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of training that have steps: the head alone, then all layers (A.4)."""
        boundary = self.head_epochs * self.steps_per_epoch
        phases = (
            Phase(0, boundary, self.head_learning_rate, True),
            Phase(boundary, boundary + self.epochs * self.steps_per_epoch, self.learning_rate, False),
        )
        return tuple(phase for phase in phases if phase.end > phase.start)

    @property
    def total_steps(self) -> int:
        """Parameter updates in the whole run."""
        return (self.head_epochs + self.epochs) * self.steps_per_epoch

    @property
    def is_efficientnet(self) -> bool:
        """Whether the backbone is one of the EfficientNets."""
        return self.backbone.startswith("efficientnet")

    @property
    def freezes_batch_norm(self) -> bool:
        """Whether the backbone's batch norm is frozen; if not said, in fine-tuning as of A.4."""
        auto = self.is_efficientnet or self.head_epochs > 0
        return auto if self.freeze_batch_norm == "auto" else self.freeze_batch_norm == "yes"

    @property
    def resolved_stem(self) -> str:
        """`imagenet` or `small`; the small one below 128 px, as DROC does for its 32 px images."""
        return ("imagenet" if self.view_size >= 128 else "small") if self.stem == "auto" else self.stem

    @property
    def resolved_density_mode(self) -> str:
        """`shared` or `per_location`; the latter for the categories that A.5 calls aligned, by their name."""
        auto = "per_location" if Path(self.data).name in ALIGNED else "shared"
        return auto if self.density_mode == "auto" else self.density_mode

    @property
    def resolved_normalization(self) -> str:
        """`none` or `imagenet`; ImageNet weights expect what they were trained on."""
        return ("imagenet" if self.weights else "none") if self.normalization == "auto" else self.normalization

    def to_json(self) -> str:
        """The settings as JSON, in the order of the fields."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Config":
        """Builds a configuration from names and values, as parsed from JSON."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise InputError(f"Unknown settings {', '.join(unknown)}: written by another version of cutpaste_tf?")
        parsed = {}
        for field in dataclasses.fields(cls):
            if field.name not in values:
                continue
            value, kind = values[field.name], type(field.default)
            if kind is tuple and isinstance(value, list) and all(type(item) is int for item in value):
                value = tuple(value)
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise InputError(f"The setting {field.name} is {value!r}, which is no {kind.__name__}.")
            parsed[field.name] = kind(value)
        return cls(**parsed)

    @classmethod
    def read(cls, path: Path) -> "Config":
        """Reads a `config.json`.

        Raises:
            InputError: the file is missing or not such a file.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{path.parent} has no config.json; it should be a folder that train_main.py wrote."
            ) from None
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}).") from None
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no settings.")
        return cls.from_mapping(values)
