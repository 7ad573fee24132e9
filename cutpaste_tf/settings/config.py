"""The configuration of a run: one group of settings for each subpackage, and the rules across them.

Defaults are the paper's values, with their sections, where it gives any. Others come from DROC, the same authors'
earlier code and the paper's reference [52] (google-research/deep_representation_one_class), or are ours: the head's
widths and the base jitter of .1. Shared base augmentation is our reading of the paper's equations, and the fair coin
for the union of aspect ratios is our reading of A.2. Only `image_score` differs from what the paper shows. Nothing here
loads TensorFlow, so bad input is refused at once. Code that uses a configuration expects it to be resolved.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from cutpaste_tf import json_files
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.augmentation import AugmentationSettings
from cutpaste_tf.settings.base import PATCH_MODEL, Settings, leaves, only_for, parsed, setting
from cutpaste_tf.settings.data import DataSettings, default_image_size
from cutpaste_tf.settings.density import PATCH_DENSITIES, DensitySettings
from cutpaste_tf.settings.network import NetworkSettings
from cutpaste_tf.settings.schedule import ScheduleSettings
from cutpaste_tf.settings.scoring import DecisionSettings, FeatureSettings, HeatMapSettings

# A.5 names MVTec AD's categories of aligned objects, which get a density for each location; the others do not.
ALIGNED = ("bottle", "cable", "capsule", "metal_nut", "pill", "toothbrush", "transistor", "zipper")
NOT_ALIGNED = ("carpet", "grid", "hazelnut", "leather", "screw", "tile", "wood")
# The settings in which the detectors of a combination may differ, and which `--choose` decides.
CHOSEN = ("patch_size", "feature", "extract_size", "stride", "dense", "density", "density_mode", "l2_normalize")
CHOSEN += ("normalize_coverage", "image_score")
_RESOLVED = "resolved"  # in config.json: flat name -> filled-in value


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Everything that determines a run's result; saved as `config.json` with the results.

    `Config.of(data="parts", epochs=4)` creates one from flat names, the names of the flags. Open values (`auto`, 0 or
    -1) stay open, even in `replaced`; `resolved` fills them in for computations, depending on backbone and data.

    Raises:
        InputError: a value is out of range, a name is unknown, or two settings contradict each other.
    """

    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    network: NetworkSettings = NetworkSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    features: FeatureSettings = FeatureSettings()
    density: DensitySettings = DensitySettings()
    heat_maps: HeatMapSettings = HeatMapSettings()
    decision: DecisionSettings = DecisionSettings()
    combine: str = setting(
        "",
        "Further detectors on the same network; their standardized scores are averaged with this one's. For each "
        "detector, give the settings that differ as NAME=VALUE, separated by spaces; separate detectors by semicolons.",
        source="ours",
    )
    seed: int = setting(0, "Seed of the initial weights and of the stream of views.", at_least=0, at_most=2**31 - 1)

    @property
    def patch_size(self) -> int:
        """Side in pixels of the crops a patch model is trained on; 0 for an image model."""
        return self.augmentation.patch_size

    @property
    def parts(self) -> list[Self]:
        """The configurations of a combination's detectors, none of which is a combination itself.

        Raises:
            InputError: `combine` cannot be parsed, or one of the configurations is not possible.
        """
        first, defaults, values = self.replaced(combine=""), self._defaults(), self.flat()
        result = [first]
        for text in filter(None, map(str.strip, self.combine.split(";"))):
            own = {name: defaults[name] for name in CHOSEN}
            for word in text.split():
                name, _, value = word.partition("=")
                if name not in CHOSEN:
                    raise InputError(f"--combine: {name} is not one of {', '.join(CHOSEN)}.")
                own[name] = _of_type(type(values[name]), value, word)
            result.append(first.replaced(**own))
        return result

    @property
    def saliency_weights(self) -> str:
        """The ImageNet ResNet-18 for CutSwap's saliency: its own setting, or else the run's weights, or else V1."""
        weights = self.network.weights if self.network.backbone == "resnet18" else ""
        return self.augmentation.saliency_weights or weights or "imagenet"

    @property
    def view_size(self) -> sizes.Size:
        """(height, width) of the network's training input: crops or whole images."""
        return sizes.of(self.patch_size) if self.patch_size else self.data.size

    def resolved(self) -> Self:
        """The configuration with open values replaced by the paper's.

        `false_alarm_rate` stays open: it depends on the number of images.
        """
        return self.replaced(**filled) if (filled := self.filled_in()) else self

    def filled_in(self) -> dict[str, Any]:
        """The values that `resolved` fills in: name -> the paper's value for the backbone and the data."""
        filled: dict[str, Any] = {}
        values, defaults = self.flat(), self._defaults()

        def value(name: str, by_rule: Any) -> Any:
            """The setting's value, or the rule's if it is open; the defaults of all settings here are open."""
            if values[name] != defaults[name]:
                return values[name]
            filled[name] = by_rule
            return by_rule

        transfer, weights = self.network.facts.transfer, self.network.weights
        by_set, of_images = sizes.of(default_image_size(self.data.data)), (sizes.AUTO, sizes.AUTO)
        image_size = value("image_size", of_images if self.features.tile_size else by_set)
        epochs = value("epochs", 64 if transfer else 256)
        head_epochs = value("head_epochs", 10 if transfer and epochs else 0)
        value("batch_size", 24 if transfer else 32 * len(self.augmentation.views))
        value("learning_rate", 0.0001 if transfer else 0.03)
        # The small stem is DROC's for its 32 px images; ImageNet's weights have the other.
        is_large = (self.patch_size or image_size[0]) >= 128
        value("stem", "imagenet" if is_large or weights == "imagenet" else "small")
        value("normalization", "imagenet" if weights else "none")  # weights expect the input they were trained on
        value("freeze_batch_norm", "yes" if transfer or head_epochs > 0 else "no")  # in fine-tuning, see A.4
        if self.patch_size:
            is_aligned = Path(self.data.data).name in ALIGNED and self.density.density != "nearest"
            value("density_mode", "per_location" if is_aligned else "shared")
        return filled

    @property
    def leaves_mode_to_images(self) -> bool:
        """Whether `density_mode` is open and A.5 says nothing about the data; see `preparation.with_density_mode`."""
        is_open = self.patch_size and self.density.density == "gaussian" and self.density.density_mode == "auto"
        return bool(is_open) and Path(self.data.data).name not in (*ALIGNED, *NOT_ALIGNED)

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {field.name: field.default for field, _ in leaves(cls)}

    def check(self) -> None:
        """Checks that the groups are compatible once open values are filled in; here they stay open."""
        if self.filled_in():
            self.resolved()  # checks itself
            return
        if not self.patch_size:
            self._refuse_patch_settings()
            if self.data.image_size[0] == sizes.AUTO:
                raise InputError("--image_size=auto (images at their own size) is for patch models; give HEIGHT,auto.")
        if self.combine:
            _ = self.parts  # each checks itself
        augmentation, batch_size = self.augmentation, self.schedule.batch_size
        augmentation.check_scar(self.view_size)
        if augmentation.proxy_task == "rotation" and self.view_size[0] != self.view_size[1]:
            raise InputError(
                f"--proxy_task=rotation turns views by 90 degrees, so they must be square, not "
                f"{sizes.shown(self.view_size)}; give a single number as --image_size, or give --patch_size."
            )
        if self.patch_size:
            self._check_patches()
        if self.schedule.calibrate_batch_norm and self.network.freeze_batch_norm == "yes":
            raise InputError("--calibrate_batch_norm: batch norm is frozen; add --freeze_batch_norm=no.")
        if batch_size % len(augmentation.views):
            nearest = max(1, batch_size // len(augmentation.views)) * len(augmentation.views)
            raise InputError(
                f"--batch_size={batch_size} is not divisible by the {len(augmentation.views)} classes of "
                f"{augmentation.proxy_task}; try --batch_size={nearest}."
            )

    def _refuse_patch_settings(self) -> None:
        values, defaults = self.flat(), self._defaults()
        if changed := [name for name in only_for(type(self), PATCH_MODEL) if values[name] != defaults[name]]:
            options = ", ".join(f"--{name}" for name in changed)
            raise InputError(f"{options}: only for patch models; add --patch_size=64.")

    def _check_patches(self) -> None:
        features, given = self.features, sizes.as_flag(self.data.image_size)
        is_known = self.data.image_size[0] != sizes.AUTO  # otherwise a size that fits is chosen
        size = self.data.size if is_known else sizes.of(features.tile_size or features.nearest_fitting(256))
        for name, value in (("patch_size", self.patch_size), ("extract_size", features.extract_size)):
            if value > min(size):
                raise InputError(f"--{name}={value} is larger than --image_size={given}; the nearest is {value}.")
        if features.stride > features.extract_size:
            raise InputError(
                f"--stride={features.stride} leaves gaps between patches of {features.extract_size} px; lower it."
            )
        fitting = tuple(features.nearest_fitting(pixels) for pixels in size)
        if fitting != size:
            raise InputError(
                f"Patches of {features.extract_size} px every {features.stride} px do not end at the border of "
                f"--image_size={given}: image_size - extract_size must be a multiple of the stride; the nearest is "
                f"--image_size={sizes.as_flag(fitting)}."
            )
        density, mode = self.density.density, self.density.density_mode
        if density not in PATCH_DENSITIES:
            raise InputError(
                f"--density={density} is for whole images; a patch model needs {' or '.join(PATCH_DENSITIES)}."
            )
        if density == "nearest" and mode == "per_location":
            raise InputError("--density=nearest keeps the patches of all locations together; omit --density_mode.")
        if self.density.reg_covar == 0 and self.density.density_mode == "per_location":
            raise InputError("--density_mode=per_location needs a --reg_covar greater than 0.")
        if features.dense == "fast" and not self.network.facts.dilates:
            raise InputError(
                "--dense=fast is for resnet18: EfficientNet's squeeze-and-excitation sees the whole image at once, so "
                "its features would not belong to a location; use --dense=exact."
            )
        if features.dense == "fast" and self.network.stem == "imagenet" and features.stride % 4:
            raise InputError(
                f"--dense=fast with the ImageNet stem needs a --stride that is a multiple of 4, not {features.stride}: "
                "its max-pooling leaves one location every 4 pixels."
            )

    def to_json(self) -> str:
        """The settings as JSON, by group and in field order, and the values that `resolved` fills in."""
        return json.dumps({**dataclasses.asdict(self), _RESOLVED: self.filled_in()}, indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a `config.json`; open values are open again.

        If the version that wrote it filled in different values than this one would, they are treated as given. Files
        from version 0.2 have no open values.

        Raises:
            InputError: the file is missing or invalid.
        """
        try:
            values = json_files.read(path)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{path.parent} has no config.json; give a folder that train_main.py wrote.") from None
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}): copy the folder again from the original.") from None
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no settings.")
        if isinstance(values.get("data"), str):
            raise InputError(
                f"{path} was written by cutpaste_tf 0.1, whose settings were not in groups. This version cannot use "
                "the run; train it again, or score it with version 0.1."
            )
        resolved = values.pop(_RESOLVED, {})
        config, fields = cls.from_mapping(values), {field.name: field for field, _ in leaves(cls)}
        if not isinstance(resolved, dict) or not resolved.keys() <= fields.keys():
            raise InputError(f"{path} holds unknown settings: was it written by another version of cutpaste_tf?")
        resolved = {name: parsed(fields[name], value) for name, value in resolved.items()}
        for _ in resolved:  # pinning one value may change how others are filled in
            now = config.resolved().flat()
            config = config.replaced(**{name: value for name, value in resolved.items() if now[name] != value})
        return config


def _of_type(kind: type, text: str, word: str) -> Any:
    try:
        return {"True": True, "False": False}[text] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise InputError(f"--combine: {word} is not a value of type {kind.__name__}.") from None


# The fields an evaluation can change: those of groups with `new_at_evaluation`.
NEW_AT_EVALUATION = tuple(field for field, group in leaves(Config) if group.new_at_evaluation)
