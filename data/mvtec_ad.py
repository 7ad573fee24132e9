"""MVTec AD for TensorFlow Datasets: 15 categories as configs, from the official archive or a copy of it.

    python -m data.mvtec_ad --source=ARCHIVE_OR_FOLDER [--data_dir=DIR] [--categories=bottle,...]

Before anything is prepared, the number of images in every category is checked against the published numbers. Every file
is decoded once, and the files are stored as they are. `train_main.py --data=mvtec_ad/bottle` then reads them, and so
does `tfds.load("mvtec_ad/bottle")` if this module is imported. The data set is CC BY-NC-SA 4.0: no commercial use.
"""

import contextlib
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from cutpaste_tf.cli.main import required, run_main
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import layouts, prepared, reading

_SOURCE = flags.DEFINE_string("source", None, "The official archive, or a folder that holds the categories.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Folder for the prepared sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."
)
_CATEGORIES = flags.DEFINE_list("categories", list(prepared.MVTEC_AD), "Categories to prepare.")

_CITATION = """\
@inproceedings{bergmann2019mvtec,
  title = {{MVTec AD} -- A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection},
  author = {Bergmann, Paul and Fauser, Michael and Sattlegger, David and Steger, Carsten},
  booktitle = {CVPR},
  year = {2019},
}"""


class Counts(NamedTuple):
    """Numbers of images in a category; every anomalous image has a mask."""

    train: int
    test_normal: int
    test_anomalous: int
    masks: int


# Table 2 of Bergmann et al., CVPR 2019: training images, normal and anomalous test images.
_PUBLISHED = {
    "bottle": (209, 20, 63), "cable": (224, 58, 92), "capsule": (219, 23, 109), "carpet": (280, 28, 89),
    "grid": (264, 21, 57), "hazelnut": (391, 40, 70), "leather": (245, 32, 92), "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141), "screw": (320, 41, 119), "tile": (230, 33, 84), "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40), "wood": (247, 19, 60), "zipper": (240, 32, 119),
}  # fmt: skip
PUBLISHED = {name: Counts(*counts, masks=counts[-1]) for name, counts in _PUBLISHED.items()}


class MvtecAd(tfds.core.GeneratorBasedBuilder):
    """One category of MVTec AD, at its own resolution.

    Args:
        source: the category's folder; needed to prepare the category, not to read it.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012  TFDS's way
        tfds.core.BuilderConfig(name=name, description=f"The category {name} of MVTec AD.")
        for name in prepared.MVTEC_AD
    ]

    def __init__(self, *, source: Path | None = None, **options: Any):  # TFDS passes options through
        self._source = source
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Industrial objects and textures; defects, with masks, in the test split only.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=["normal", "anomalous"]),
                    "defect": tfds.features.Text(),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad",
            license="CC BY-NC-SA 4.0",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # the archive's license has to be accepted by hand
        if self._source is None:
            raise InputError("Prepare MVTec AD with: python -m data.mvtec_ad --source=ARCHIVE_OR_FOLDER")
        return {
            "train": self._generate_examples(layouts.list_train(self._source)),
            "test": self._generate_examples(layouts.list_test(self._source)),
        }

    def _generate_examples(self, items: list[reading.Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            pixels = reading.read_pixels(Path(str(item.image)))  # decoding finds damaged files
            empty = np.zeros((*pixels.shape[:2], 1), np.uint8)
            record = {
                "image": str(item.image),
                "mask": str(item.masks[0]) if item.masks else empty,
                "label": int(item.label),
                "defect": item.defect,
                "file_name": item.path,
            }
            yield item.path, record


def check(category: Path, name: str) -> str:
    """What a category lacks compared with the published counts; empty if it is complete.

    Args:
        category: folder of the category.
        name: a name from PUBLISHED.
    """
    if not (category / "train").is_dir():
        return f"{name}: no folder {category}/train"
    train, test = layouts.list_train(category), layouts.list_test(category)
    normal = sum(item.label == reading.NORMAL for item in test)
    images = Counts(len(train), normal, len(test) - normal, sum(bool(item.masks) for item in test))
    pairs = zip(Counts._fields, images, PUBLISHED[name], strict=True)
    wrong = [f"{field} {value} of {expected}" for field, value, expected in pairs if value != expected]
    return f"{name}: {', '.join(wrong)}" if wrong else ""


def prepare(source: Path, categories: list[str], data_dir: Path) -> None:
    """Prepares categories; those already prepared are left as they are.

    Args:
        source: the official archive, a folder of categories, or the folder of the only category requested.
        categories: names from PUBLISHED.
        data_dir: TensorFlow Datasets' folder.

    Raises:
        InputError: a category is unknown, the archive is damaged, or a category is missing or incomplete; nothing is
            prepared then.
    """
    unknown = [name for name in categories if name not in PUBLISHED]
    if unknown or not categories:
        raise InputError(f"--categories={','.join(unknown)} is unknown; the categories are: {', '.join(PUBLISHED)}.")
    if not source.exists():
        raise InputError(f"--source={source} does not exist; give MVTec AD's archive or a folder of categories.")
    with _unpacked(source, data_dir) as root:
        places = {name: _find(root, name) for name in categories}
        lacks = [lack for name in categories if (lack := check(places[name], name))]
        if lacks:
            complete = ",".join(name for name in categories if not any(lack.startswith(f"{name}:") for lack in lacks))
            hint = f" To prepare only complete categories, give --categories={complete}" if complete else ""
            raise InputError(f"{source} is not the complete data set ({'; '.join(lacks)}).{hint}")
        tfds.disable_progress_bar()
        for name in categories:
            builder = MvtecAd(source=places[name], config=name, data_dir=data_dir)
            builder.download_and_prepare()
            print(f"mvtec_ad/{name}: {builder.data_path}", flush=True)


@contextlib.contextmanager
def _unpacked(source: Path, data_dir: Path) -> Iterator[Path]:
    """The folder itself, or the archive's content in a temporary folder next to the data."""
    if source.is_dir():
        yield source
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mvtec_ad.partial.", dir=data_dir) as folder:
        print(f"Unpacking {source} ...", flush=True)
        try:
            with tarfile.open(source) as archive:
                archive.extractall(folder, filter="data")
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # a full disk, no permission
                raise
            raise InputError(f"--source={source} is not a complete tar archive ({error}); fetch it again.") from None
        yield Path(folder)


def _find(root: Path, name: str) -> Path:
    """A category's folder: in the root, one level below it, or the root itself."""
    if root.name == name and (root / "train").is_dir():
        return root
    return next((path.parent for path in sorted(root.glob(f"*/{name}/train"))), root / name)


def main() -> None:
    """Prepares the categories that the flags ask for."""
    source = Path(required(_SOURCE)).expanduser()
    prepare(source, _CATEGORIES.value, prepared.data_dir(_DATA_DIR.value))


def run() -> None:
    """The command."""
    run_main(main, __doc__)


if __name__ == "__main__":
    run()
