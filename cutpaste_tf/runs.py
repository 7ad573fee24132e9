"""The folder of a run. Its files are written atomically.

.lock                  held by the running process; .HASH.lock by an evaluation that writes its folder
config.json            the configuration, enough to repeat the run
training_data.json     names and hashes of the training images; a resumed run must find the same images
region.png             the mask of --region, if there is one for all images; also in the detector
augmentations.png      the network's first views, if it is trained
checkpoint.npz         weights, optimizer state, step and the epoch's metrics so far, during training
train_log.csv          loss, accuracy, learning rate and images/s of every epoch
tensorboard/           the same for TensorBoard
train_embeddings.npz   features of the training images
suspects.csv           the training images, least like the others first
detector/              the result; exists once the run is complete
embeddings/            features that eval_main.py caches, see embeddings.py
eval/                  what eval_main.py writes; eval_NAME=VALUE/ for changed settings,
                       eval_data=NAME/ for other data, eval_SHAPE_FILL/ for synthetic anomalies
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cutpaste_tf import json_files
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import COPY_AGAIN, write_whole
from cutpaste_tf.images import folders, regions, sources
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.images.synthetic import SyntheticOptions
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import NEW_AT_EVALUATION, Config
from cutpaste_tf.settings.data import ReadingSettings

CHECKPOINT = "checkpoint.npz"
DETECTOR = "detector"
MODEL = "model.keras"  # in the detector
DENSITY = "density.npz"  # in the detector
FACTORS = "location_factors.npy"  # in the detector, for a density for each location
CALIBRATION = "calibration.npz"  # in the detector, see detection/calibration.py
TRAINING_DATA = "training_data.json"  # also in the detector
TRAIN_EMBEDDINGS = "train_embeddings.npz"
SUSPECTS = "suspects.csv"
EMBEDDINGS = "embeddings"
EVAL = "eval"
EXPORT = "export.json"  # in an export, see detection/record.py


class TrainingData(NamedTuple):
    """What is stored about the training images.

    Attributes:
        images: name -> hash of the image's pixels.
        white: value that became 255 in files with more than 8 bits; test images are scaled the same way.
        region: file of the mask of the part of all images that counts; empty if there is none or one for each image.
    """

    images: dict[str, str]
    white: int
    region: str = ""

    @classmethod
    def of(cls, examples: Examples, region: str = "") -> Self:
        """The data to store about examples.

        Args:
            examples: the training images.
            region: see `ReadingSettings`.
        """
        is_shared = bool(region) and not regions.is_folder(region)
        images = dict(zip(examples.paths, examples.hashes, strict=True))
        return cls(images, examples.white, region if is_shared else "")

    def refuse(
        self, paths: list[str], hashes: Sequence[str], mend: str = "Remove them, or give --allow_trained_images."
    ) -> None:
        """Checks that no test image is a training image, since its score would be meaningless.

        Args:
            paths: paths of the test images.
            hashes: hashes of their pixels, see `reading.Examples`.
            mend: advice for the user.

        Raises:
            InputError: some are training images; the message names the first.
        """
        trained = {digest: name for name, digest in self.images.items()}
        same = [f"{path} = {trained[digest]}" for path, digest in zip(paths, hashes, strict=True) if digest in trained]
        if same:
            more = f" and {len(same) - 3} more" if len(same) > 3 else ""
            raise InputError(
                f"{len(same)} of {len(paths)} images have the same pixels as training images ({', '.join(same[:3])}"
                f"{more}), so their scores would be too good. {mend}"
            )

    def write(self, folder: Path) -> None:
        """Writes training_data.json and a copy of the region."""
        values = {"images": self.images, "white": self.white}
        write_whole(folder / TRAINING_DATA, json.dumps(values, indent=1).encode())
        if self.region:
            write_whole(folder / regions.FILE, Path(self.region).expanduser().read_bytes())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what `write` wrote.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = folder / TRAINING_DATA
        try:
            values = json_files.read(path)
            region = folder / regions.FILE
            return cls(dict(values["images"]), int(values["white"]), str(region) if region.is_file() else "")
        except FileNotFoundError:
            raise InputError(f"{path} is missing: copy the whole folder again, or train again.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}): copy it again, or train again.") from None


def open_run(folder: Path, config: Config, data: TrainingData) -> Config:
    """Claims a folder for a run, unless it already belongs to this run; the caller holds the folder's lock.

    Args:
        folder: folder of the run.
        config: configuration to save in it.
        data: the training images; a resumed run must find the same images, wherever they are now.

    Returns:
        The configuration of the run: as given, but with the original name of data that have moved since.

    Raises:
        InputError: the folder belongs to another configuration, or the images have changed since.
    """
    check(folder, config)
    path = folder / "config.json"
    if path.exists():
        before = Config.read(path)
        if TrainingData.read(folder).images != data.images:
            if sources.is_same(before.data.data, config.data.data):
                raise InputError(
                    f"The training images have changed since the run in {folder} began; give another folder."
                )
            raise InputError(
                f"--output_dir={folder} holds a run with data={before.data.data} (now {config.data.data}, different "
                "images); give another folder, or delete this one."
            )
        config = config.replaced(data=before.data.data)
    else:
        data.write(folder)
    if not path.exists() or Config.read(path) != config:
        write_whole(path, config.to_json().encode())
    if is_complete(folder):
        (folder / CHECKPOINT).unlink(missing_ok=True)  # left by a run that was killed just before it ended
    return config


def check(folder: Path, config: Config) -> None:
    """Checks that a folder is free for a run or already belongs to this run; writes nothing.

    Data may have moved. Test data and settings for reading may change at any time. Settings that an evaluation can
    change may change until the run is complete.

    Raises:
        InputError: the folder is a file, or belongs to another configuration.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir={folder} is a file; give a folder.")
    if not (folder / "config.json").exists():
        return
    complete = is_complete(folder)
    free = {"test_data"} | {
        field.name
        for field, group in leaves(Config)
        if group is ReadingSettings or (group.new_at_evaluation and not complete)
    }
    if changes := _changes(Config.read(folder / "config.json"), config, free):
        raise InputError(f"--output_dir={folder} holds a run with {changes}; give another folder, or delete this one.")


def check_network_of(config: Config) -> None:
    """Checks that the run whose network is used is complete and has the settings that determine the network.

    Raises:
        InputError: it is not, or has not.
    """
    folder = Path(config.network.network_of).expanduser()
    if is_export(folder):
        raise InputError(f"--network_of={folder} is an export, which has no network; give the run it was made from.")
    of_scoring = {"patch_size", "combine"} | {field.name for field in NEW_AT_EVALUATION}
    free = {"add_normal", "network_of", "test_data"} | of_scoring
    if changes := _changes(Config.read(find_detector(folder) / "config.json"), config, free):
        raise InputError(f"--network_of={folder} was made with {changes}; its network is used as it is, so leave that.")


def _changes(before: Config, now: Config, free: Collection[str]) -> str:
    """The settings that differ, as `NAME=VALUE (now VALUE)`, except those in `free`."""
    old = before.resolved().flat()
    # Data keep their original name, which determines the open values.
    new = now.replaced(data=old["data"]).resolved().flat()
    return ", ".join(
        f"{name}={old[name]} (now {new[name]})" for name in new if old[name] != new[name] and name not in free
    )


def find_detector(folder: Path) -> Path:
    """The detector of a run, or the folder itself if it is a copied detector or an export.

    Raises:
        InputError: it is none of these, or the run has not finished.
    """
    if is_complete(folder):
        if not (folder / DETECTOR / MODEL).is_file():
            raise InputError(f"{folder / DETECTOR / MODEL} is missing: {COPY_AGAIN}.")
        return folder / DETECTOR
    if ((folder / MODEL).is_file() or is_export(folder)) and (folder / "config.json").is_file():
        return folder
    if not folder.exists():
        raise InputError(f"{folder} does not exist; give the folder of a run, or of a detector copied from one.")
    Config.read(folder / "config.json")
    if (folder / CALIBRATION).is_file() or (folder / DENSITY).is_file():
        raise InputError(f"{folder / MODEL} is missing: {COPY_AGAIN}.")
    raise InputError(f"The run in {folder} is not complete; run its train_main.py command again to finish it.")


def is_complete(folder: Path) -> bool:
    """Whether the run has finished; its detector is written last."""
    return (folder / DETECTOR).is_dir()


def is_export(folder: Path) -> bool:
    """Whether a folder is an export."""
    return (folder / EXPORT).is_file()


def eval_folder(run_dir: Path, named: Mapping[str, Any], options: SyntheticOptions | None, other_data: str) -> Path:
    """The folder of an evaluation in a run's folder, named after the changed settings."""
    name = EVAL + "".join(f"_{key}={value}" for key, value in named.items())
    if options:
        name += f"_{options.shape}_{options.fill}" + (f"_{options.seed}" if options.seed else "")
    if other_data:
        place = sources.canonical(other_data)
        name += "_data=" + re.sub(r"[^\w.-]+", "_", folders.printable(Path(place).name))[:40]
        if _location_of(run_dir / name) not in (place, None):
            name += "_" + hashlib.sha256(os.fsencode(place)).hexdigest()[:8]  # another folder with that name
    return run_dir / name


def _location_of(folder: Path) -> str | None:
    """The location of an evaluation's test images; None if its record is missing or damaged and should be replaced."""
    try:
        return json_files.read(folder / "metrics.json")["location"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
