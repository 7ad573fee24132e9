"""Scores test images with a trained run.

  python eval_main.py --run_dir=RUN [--data=DATA] [--synthetic=SHAPE]

DATA holds test/good and test/DEFECT (MVTec AD's layout), or good/ and DEFECT/, or just images, which are then scored
without an AUC; mvtec_ad/CATEGORY and cifar10/CLASS as in train_main.py; by default what the run was trained on.
RUN/eval receives metrics.json, scores.csv, embeddings.npz (of a patch model patch_scores.npz), report.html, the page to
look at, histogram.png and, where there is an AUC, roc.png; with heat maps heatmaps.png and heatmaps/;
RUN/eval_SHAPE_FILL those of synthetic anomalies (Table 6). Features, density and heat maps can be given anew
(--feature, --density, --dense, ...): RUN/eval_NAME=VALUE; features, or the scores of patches, are computed once and
kept.
"""

from pathlib import Path

from absl import flags

from cutpaste_tf.cli.device_flags import DEVICES
from cutpaste_tf.cli.flags import define_evaluation_flags, settings_from_flags
from cutpaste_tf.cli.main import TFDS_DATA_DIR, folders_of, required, run_main
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.evaluate import evaluate
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import synthetic
from cutpaste_tf.images.synthetic import SyntheticOptions

_RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "Folder that train_main.py wrote, or export_main.py; several runs, with commas, are one detector, an ensemble.",
)
_DATA = flags.DEFINE_string("data", None, "Test images; by default the run's --test_data, or else its --data.")
_SYNTHETIC = flags.DEFINE_enum("synthetic", None, synthetic.SHAPES, "Score synthetic anomalies of this shape instead.")
_FILL = flags.DEFINE_enum("synthetic_fill", "color", synthetic.FILLS, "Content: a random color, or natural images.")
_IMAGES = flags.DEFINE_string("synthetic_images", "", "Folder of natural images; by default scikit-learn's two.")
_SEED = flags.DEFINE_integer("synthetic_seed", 0, "Seed of the synthetic anomalies.", lower_bound=0)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where to write; by default a folder in the run's.")
_CALIBRATION = flags.DEFINE_string(
    "calibration_data", "", "Folder of other normal images, which give the threshold in place of the training images."
)
_THRESHOLD = flags.DEFINE_float(
    "threshold", None, "Scores above it are anomalous, in place of the threshold that the false alarm rate gives."
)
_ALLOW_TRAINED = flags.DEFINE_bool(
    "allow_trained_images", False, "Score test images that have the pixels of training images, rather than refuse them."
)
_HEAT_MAPS = flags.DEFINE_bool("heat_maps", None, "Whether to localize; by default with masks or a patch model.")
_LAYER = flags.DEFINE_string(
    "gradcam_layer", "", "Layer of an image model's GradCAM; by default what the feature pools."
)
_PAGE = flags.DEFINE_bool("page", True, "Write report.html, for which the test images are read.")
_BESIDE = flags.DEFINE_string(
    "beside", "", "Runs or their evaluations of the same test images, with commas, to stand beside."
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard_images", False, "Show the sheet of heat maps in TensorBoard.")
define_evaluation_flags()


def run() -> None:
    """The command."""
    run_main(_main, __doc__)


def _main() -> None:
    evaluate(
        folders_of(required(_RUN_DIR)),
        _DATA.value or "",
        settings=settings_from_flags(),
        options=EvaluationOptions(
            heat_maps=_HEAT_MAPS.value,
            gradcam_layer=_LAYER.value,
            synthetic=_synthetic_options(),
            threshold=_THRESHOLD.value,
            calibration_data=Path(_CALIBRATION.value).expanduser() if _CALIBRATION.value else "",
            allow_trained_images=_ALLOW_TRAINED.value,
            page=_PAGE.value,
            beside=tuple(map(str, folders_of(_BESIDE.value))),
            tensorboard_images=_TENSORBOARD.value,
            tfds_data_dir=TFDS_DATA_DIR.value,
        ),
        output_dir=Path(_OUTPUT_DIR.value).expanduser() if _OUTPUT_DIR.value else None,
        device_count=DEVICES.value,
    )


def _synthetic_options() -> SyntheticOptions | None:
    if _SYNTHETIC.value:
        if _IMAGES.value and _FILL.value != "image":
            raise InputError("--synthetic_images needs --synthetic_fill=image.")
        return SyntheticOptions(_SYNTHETIC.value, _FILL.value, _IMAGES.value, _SEED.value)
    if _FILL.present or _IMAGES.present or _SEED.present:
        raise InputError("--synthetic_fill, --synthetic_images and --synthetic_seed need --synthetic=SHAPE.")
    return None


if __name__ == "__main__":
    run()
