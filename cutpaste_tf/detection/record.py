"""The folder of an export: its files and its record.

export.json            the content of `Record`
config.json            the settings of the run
calibration.npz        scores of normal images, see calibration.py
training_data.json     names and hashes of the training images; an evaluation refuses them as test images
N/                     the SavedModel, named by its version, as TensorFlow Serving expects; the previous one is kept
model.onnx             instead of N/, for ONNX
model.tflite           instead of N/, for LiteRT
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any, Self

from cutpaste_tf import json_files, runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import COPY_AGAIN
from cutpaste_tf.runs import TrainingData

_PACKAGES = ("cutpaste_tf", "tensorflow", "keras", "numpy", "pillow", "tf2onnx", "onnxruntime", "ai-edge-litert")


@dataclasses.dataclass(frozen=True)
class Record:
    """The content of export.json.

    Attributes:
        format: `saved_model`, `onnx` or `litert`.
        image_size: height and width in pixels of the network's input; in exports older than 0.3 the side of a square.
        version: name of the SavedModel's folder.
        false_alarm_rate: false alarm rate of the threshold.
        threshold: the score above which images are anomalous.
        threshold_is_given: whether the user gave the threshold, which then determines the rate.
        pixel_threshold: the heat above which pixels are anomalous; None if heat maps do not share a scale.
        calibration_images: number of normal images that set thresholds and p-values.
        training_data: SHA-256 of the names and pixels of the training images.
        versions: versions of Python and of the packages used.
        files: SHA-256 of each file of the model, by its path in the folder.
        difference: difference between its scores and the evaluation's, see `comparison.Difference`; None if not
            measured.
        white: value that becomes 255 in files with more than 8 bits, for programs that read files themselves; None,
            like `background`, in exports older than 0.3.
        background: RGB 0..255, shown behind transparent pixels.
    """

    format: str
    image_size: tuple[int, int] | int
    false_alarm_rate: float
    threshold: float
    calibration_images: int
    training_data: str
    versions: dict[str, str]
    files: dict[str, str]
    difference: dict[str, Any] | None = None
    version: int = 1
    pixel_threshold: float | None = None
    threshold_is_given: bool = False
    white: int | None = None
    background: tuple[int, ...] | None = None

    def write(self, folder: Path) -> None:
        """Writes export.json."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (folder / runs.EXPORT).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads export.json and verifies the files it lists.

        Raises:
            InputError: the folder is not an export or is from another version, or a file in it is missing or damaged.
        """
        path = folder / runs.EXPORT
        try:
            record = cls(**json_files.read(path))
            if type(record.version) is not int or not isinstance(record.files, dict):
                raise TypeError("its values have other types")
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{folder} has no {runs.EXPORT}; give a folder that export_main.py wrote.") from None
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path} is damaged or from another version of cutpaste_tf ({error}): export again."
            ) from None
        for name, digest in record.files.items():
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{path} lists {name}, which is not in its folder: export again.")
            if not (folder / name).is_file():
                raise InputError(f"{folder / name} is missing: {COPY_AGAIN}.")
            if _sha256(folder / name) != digest:
                raise InputError(f"{folder / name} is not the file that was exported: export again, or {COPY_AGAIN}.")
        return record


def digests(model: Path) -> dict[str, str]:
    """SHA-256 of a model's file, or of each file in its folder, by path in the export."""
    files = sorted(path for path in model.rglob("*") if path.is_file()) if model.is_dir() else [model]
    return {path.relative_to(model.parent).as_posix(): _sha256(path) for path in files}


def training_digest(data: TrainingData) -> str:
    """SHA-256 of names and pixels, regardless of their order."""
    return hashlib.sha256(json.dumps(sorted(data.images.items())).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages used for exports."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # such as this package, when run from a checkout
            continue
    return installed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
