"""The configuration of a run: one group of settings for each wing, and the rules across them.

Every default is the paper's, but for `image_score`; its section stands beside it. "DROC" is the same authors' earlier
code, the paper's reference [52] (google-research/deep_representation_one_class), followed where the paper is silent.
Nothing here loads TensorFlow, so that bad input is refused at once.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.settings.augmentation import AugmentationSettings
from cutpaste_tf.settings.base import PATCH_MODEL, Settings, leaves, only_for, setting
from cutpaste_tf.settings.data import DataSettings
from cutpaste_tf.settings.density import DensitySettings
from cutpaste_tf.settings.network import NetworkSettings
from cutpaste_tf.settings.schedule import ScheduleSettings
from cutpaste_tf.settings.scoring import DecisionSettings, FeatureSettings, HeatMapSettings

# Categories whose objects lie in the same place in every image: a density for each location (A.5).
ALIGNED = ("bottle", "cable", "capsule", "metal_nut", "pill", "toothbrush", "transistor", "zipper")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Everything that decides a run's result; saved as `config.json` beside what it made.

    `Config.of(data="parts", epochs=4)` makes one from flat names, the flags'. What is left open (`auto`, 0 or -1) is
    filled in when a configuration is made, by the backbone and the data.

    Raises:
        InputError: a value is out of its range, a name is not known, or two settings contradict each other.
    """

    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    network: NetworkSettings = NetworkSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    features: FeatureSettings = FeatureSettings()
    density: DensitySettings = DensitySettings()
    heat_maps: HeatMapSettings = HeatMapSettings()
    decision: DecisionSettings = DecisionSettings()
    seed: int = setting(0, "Seed of the initial weights and of the stream of views.", at_least=0, at_most=2**31 - 1)

    @property
    def patch_size(self) -> int:
        """Side in pixels of the crops that a patch model learns from; 0 for an image model."""
        return self.augmentation.patch_size

    @property
    def saliency_weights(self) -> str:
        """The ImageNet ResNet-18 that gives CutSwap its saliency: what is named for it, else the run's own, else V1."""
        own = self.network.weights if self.network.backbone == "resnet18" else ""
        return self.augmentation.saliency_weights or own or "imagenet"

    @property
    def view_size(self) -> int:
        """Side in pixels of what the network is trained on: crops, or whole images."""
        return self.patch_size or self.data.image_size

    def check(self) -> None:
        """Fills in what is left open, then sees whether the groups fit each other."""
        self._fill_in()
        augmentation, batch_size = self.augmentation, self.schedule.batch_size
        if augmentation.scar_max_width**2 + augmentation.scar_max_length**2 > self.view_size**2:
            raise InputError(f"A rotated scar does not fit into {self.view_size} px; make it smaller.")
        if self.patch_size:
            self._check_patches()
        else:
            self._refuse_patch_settings()
        if batch_size % len(augmentation.views):
            nearest = max(1, batch_size // len(augmentation.views)) * len(augmentation.views)
            raise InputError(
                f"--batch_size={batch_size} is not divisible by the {len(augmentation.views)} classes of "
                f"{augmentation.proxy_task}; try --batch_size={nearest}."
            )

    def _fill_in(self) -> None:
        """Puts the paper's values for the backbone and the data where none are given."""
        transfer, data, network, schedule = self.network.kind.transfer, self.data, self.network, self.schedule
        self._put("data", image_size=data.image_size or sources.image_size(data.data))
        epochs = schedule.epochs if schedule.epochs >= 0 else 64 if transfer else 256
        head_epochs = schedule.head_epochs if schedule.head_epochs >= 0 else 10 if transfer and epochs else 0
        self._put(
            "schedule",
            epochs=epochs,
            head_epochs=head_epochs,
            batch_size=schedule.batch_size or (24 if transfer else 32 * len(self.augmentation.views)),
            learning_rate=schedule.learning_rate or (0.0001 if transfer else 0.03),
        )
        by_default = {
            # The small one as DROC's for its 32 px images; ImageNet's weights have the other.
            "stem": "imagenet" if self.view_size >= 128 or network.weights == "imagenet" else "small",
            "normalization": "imagenet" if network.weights else "none",  # its weights expect what they were trained on
            "freeze_batch_norm": "yes" if transfer or head_epochs > 0 else "no",  # in fine-tuning, as of A.4
        }
        self._put("network", **{k: value for k, value in by_default.items() if getattr(network, k) == "auto"})
        if self.patch_size and self.density.density_mode == "auto":
            aligned = Path(data.data).name in ALIGNED
            self._put("density", density_mode="per_location" if aligned else "shared")

    def _put(self, group: str, **values: object) -> None:
        before = getattr(self, group)
        left_open = {name: getattr(before, name) for name, value in values.items() if getattr(before, name) != value}
        # The dataclass is frozen.
        object.__setattr__(self, "_left_open", {**getattr(self, "_left_open", {}), **left_open})
        object.__setattr__(self, group, dataclasses.replace(before, **values))

    def replaced(self, **values: Any) -> Self:
        """The same configuration with other values; what was left open is filled in anew.

        `dataclasses.replace` would keep what was filled in for the values of before.
        """
        return super().replaced(**{**getattr(self, "_left_open", {}), **values})

    def _refuse_patch_settings(self) -> None:
        values, defaults = self.flat(), {field.name: field.default for field, _ in leaves(type(self))}
        if changed := [name for name in only_for(type(self), PATCH_MODEL) if values[name] != defaults[name]]:
            given = ", ".join(f"--{name}" for name in changed)
            raise InputError(f"{given}: only for patch models; give --patch_size=64 as well.")

    def _check_patches(self) -> None:
        features, image_size = self.features, self.data.image_size
        for name, value in (("patch_size", self.patch_size), ("extract_size", features.extract_size)):
            if value > image_size:
                raise InputError(f"--{name}={value} is larger than --image_size={image_size}.")
        if features.stride > features.extract_size:
            raise InputError(
                f"--stride={features.stride} leaves gaps between patches of {features.extract_size} px; lower it."
            )
        room = image_size - features.extract_size
        if room % features.stride:
            raise InputError(
                f"Patches of {features.extract_size} px every {features.stride} px do not end at the border of "
                f"{image_size} px: --stride must divide {room}, the image_size less the extract_size."
            )
        if self.density.density != "gaussian":
            raise InputError(f"--density={self.density.density} is for whole images; a patch model takes gaussian.")
        if self.density.reg_covar == 0 and self.density.density_mode == "per_location":
            raise InputError("--density_mode=per_location needs --reg_covar greater than 0.")
        if features.dense == "fast" and not self.network.kind.dilates:
            raise InputError(
                "--dense=fast is for resnet18: EfficientNet's squeeze-and-excitation sees the whole image at once, so "
                "that its features would not belong to a place; take --dense=exact."
            )
        if features.dense == "fast" and self.network.stem == "imagenet" and features.stride % 4:
            raise InputError(
                f"--dense=fast with the ImageNet stem needs a --stride that is a multiple of 4, not {features.stride}: "
                "its max-pooling leaves a place every 4 pixels."
            )

    def to_json(self) -> str:
        """The settings as JSON, by groups, in the order of the fields."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
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
        if isinstance(values.get("data"), str):
            raise InputError(
                f"{path} was written by cutpaste_tf 0.1, whose settings were not in groups; this version cannot use "
                "the run: train it again, or score it with that version."
            )
        return cls.from_mapping(values)


# The fields that an evaluation may give anew: those of the groups that say so.
NEW_AT_EVALUATION = tuple(field for field, group in leaves(Config) if group.new_at_evaluation)
