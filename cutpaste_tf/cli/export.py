"""Exports a trained run as one model that scores like its evaluation and does not need this package.

  python export_main.py --run_dir=RUN --output=DIR [--format=saved_model|onnx|litert] [--false_alarm_rate=0.01]

DIR receives the model, export.json, and what an evaluation needs. The model is model.onnx, model.tflite, or 1/, a
SavedModel under its version number, as TensorFlow Serving expects. A SavedModel takes images of any size and returns
score, p_value, is_anomalous and heat_map; `python eval_main.py --run_dir=DIR --data=DATA` evaluates it. ONNX and LiteRT
models compute in single precision; their scores are compared with the evaluation's before they are written.
docs/deploy.md shows how to use them.
"""

from pathlib import Path

from absl import flags

from cutpaste_tf.cli.main import TFDS_DATA_DIR, folders_of, required, run_main
from cutpaste_tf.cli.threshold_flag import THRESHOLD
from cutpaste_tf.serving import export as exporting
from cutpaste_tf.serving.export import ExportOptions

_RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "Folder that train_main.py wrote, or a detector copied from one. Several, separated by commas, form an ensemble.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder to write. If it holds an export, the last SavedModel stays as the previous version; the rest is replaced.",
)
_FORMAT = flags.DEFINE_enum("format", exporting.SAVED_MODEL, exporting.FORMATS, "Format of the model.")
_RATE = flags.DEFINE_float(
    "false_alarm_rate", 0.0, "Fraction of normal images that may be called anomalous. 0: the run's, or else 0.05."
)
_CALIBRATION = flags.DEFINE_string(
    "calibration_data", "", "Folder of other normal images that set the threshold instead of the run's."
)
_IMAGES = flags.DEFINE_string(
    "comparison_images",
    "",
    "Folder of normal images on which ONNX and LiteRT models are compared with the evaluation; by default those of "
    "--calibration_data, or else the training images.",
)


def run() -> None:
    """The command."""
    run_main(_main, __doc__)


def _main() -> None:
    exporting.export(
        folders_of(required(_RUN_DIR)),
        Path(required(_OUTPUT)).expanduser(),
        options=ExportOptions(
            format=_FORMAT.value,
            false_alarm_rate=_RATE.value,
            threshold=THRESHOLD.value,
            calibration_data=Path(_CALIBRATION.value).expanduser() if _CALIBRATION.value else "",
            comparison_images=Path(_IMAGES.value).expanduser() if _IMAGES.value else "",
            tfds_data_dir=TFDS_DATA_DIR.value,
        ),
    )


if __name__ == "__main__":
    run()
