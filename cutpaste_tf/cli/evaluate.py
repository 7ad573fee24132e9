"""Scores test images with a trained run.

  python eval_main.py --run_dir=RUN [--data=DATA] [--synthetic=SHAPE]

DATA holds test/good and test/DEFECT (MVTec AD's layout), or good/ and DEFECT/, or only images, which are then scored
without an AUC. It can also be mvtec_ad/CATEGORY or cifar10/CLASS, as in train_main.py. The default is the data the run
was trained on.

RUN/eval receives metrics.json, scores.csv, embeddings.npz (for a patch model patch_scores.npz), report.html (the page
to look at) and histogram.png; roc.png if there is an AUC; heatmaps.png and heatmaps/ if there are heat maps.
RUN/eval_SHAPE_FILL receives the same for synthetic anomalies (Table 6). Features, density and heat maps can be changed
(--feature, --density, --dense, ...); the results then go to RUN/eval_NAME=VALUE. Features, or patch scores, are
computed once and kept.
"""

from pathlib import Path

from absl import flags

from cutpaste_tf.cli.device_flags import DEVICES
from cutpaste_tf.cli.flags import define_evaluation_flags, settings_from_flags
from cutpaste_tf.cli.main import TFDS_DATA_DIR, folders_of, required, run_main
from cutpaste_tf.cli.threshold_flag import THRESHOLD
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.evaluate import evaluate
from cutpaste_tf.evaluation.options import EvaluationOptions
from cutpaste_tf.images import synthetic
from cutpaste_tf.images.synthetic import SyntheticOptions

_RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "Folder that train_main.py or export_main.py wrote. Several runs, separated by commas, form one detector, an "
    "ensemble.",
)
_DATA = flags.DEFINE_string("data", None, "Test images; by default the run's --test_data, or else its --data.")
_SYNTHETIC = flags.DEFINE_enum("synthetic", None, synthetic.SHAPES, "Score synthetic anomalies of this shape instead.")
_FILL = flags.DEFINE_enum(
    "synthetic_fill", "color", synthetic.FILLS, "Fill of the anomalies: a random color, or natural images."
)
_IMAGES = flags.DEFINE_string("synthetic_images", "", "Folder of natural images; by default scikit-learn's two.")
_SEED = flags.DEFINE_integer("synthetic_seed", 0, "Seed of the synthetic anomalies.", lower_bound=0)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to; by default a folder inside the run.")
_CALIBRATION = flags.DEFINE_string(
    "calibration_data", "", "Folder of other normal images that set the threshold instead of the run's."
)
_ALLOW_TRAINED = flags.DEFINE_bool(
    "allow_trained_images",
    False,
    "Score test images even if they have the same pixels as training images, instead of refusing them.",
)
_HEAT_MAPS = flags.DEFINE_bool(
    "heat_maps", None, "Whether to draw heat maps; by default if there are masks or for a patch model."
)
_LAYER = flags.DEFINE_string(
    "gradcam_layer", "", "Layer for an image model's GradCAM; by default the one that the feature pools."
)
_PAGE = flags.DEFINE_bool("page", True, "Write report.html, for which the test images are read.")
_BESIDE = flags.DEFINE_string(
    "beside", "", "Runs, or their evaluations on the same test images, to compare with, separated by commas."
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
            threshold=THRESHOLD.value,
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
