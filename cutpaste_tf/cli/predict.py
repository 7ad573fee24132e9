"""Scores images with a detector and writes a row for each as it goes: path, score, p-value, decision.

  python predict_main.py --detector=RUN --images=FILE|DIR|GLOB|- [--heat_maps=DIR] [--format=csv|jsonl] [--output=FILE]

RUN is the folder of a run, a detector copied from one, or a SavedModel export. With `-`, file names come on standard
input, one per line. Rows go to standard output, everything else to standard error. For a patch model, rows also have
the boxes of the regions above its pixel threshold. DIR receives NAME.heat.npy (or .png), the heat map at the image's
own size, and NAME.overlay.jpg. An image that cannot be read gets a row with its error, and the exit code is then 1.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from absl import flags

from cutpaste_tf import files, partials
from cutpaste_tf.cli.detector_flag import DETECTOR
from cutpaste_tf.cli.main import folders_of, required, run_main
from cutpaste_tf.cli.threshold_flag import THRESHOLD
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import named_files
from cutpaste_tf.pictures import heat_map_files
from cutpaste_tf.serving import predict as predicting
from cutpaste_tf.serving import rows
from cutpaste_tf.serving.stream import PredictionOptions

_IMAGES = flags.DEFINE_string(
    "images",
    None,
    "A file, a folder and everything below it, a pattern such as 'photos/*.png', or - for names on standard input.",
)
_OUTPUT = flags.DEFINE_string("output", None, "New file for the rows; by default standard output.")
_FORMAT = flags.DEFINE_enum("format", rows.FORMATS[0], rows.FORMATS, "Write rows as CSV or as lines of JSON.")
_HEAT_MAPS = flags.DEFINE_string("heat_maps", None, "New folder for heat maps and overlays.")
_MAP_FORMAT = flags.DEFINE_enum(
    "heat_map_format",
    heat_map_files.FORMATS[0],
    heat_map_files.FORMATS,
    "Write heat maps as float32 arrays or as 16-bit gray PNG, where 65535 stands for heat_of_65535 in the row.",
)
_RATE = flags.DEFINE_float(
    "false_alarm_rate",
    0.0,
    "Fraction of normal images that may be called anomalous. 0: the run's, or else 0.05.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_BATCH = flags.DEFINE_integer(
    "batch_size",
    0,
    "Number of images to read ahead and score together; use 1 for names that come one by one, as from a camera. 0: as "
    "many as in an evaluation.",
    lower_bound=0,
)
_MEGAPIXELS = flags.DEFINE_float(
    "max_megapixels", 0.0, "Refuse images with more megapixels than this. 0: the run's limit.", lower_bound=0.0
)


def run() -> None:
    """The command."""
    run_main(_main, __doc__)


def _main() -> None:
    detector, images = folders_of(required(DETECTOR)), required(_IMAGES)
    try:
        with _output(images) as output:
            summary = predicting.predict(
                detector,
                images,
                output,
                options=PredictionOptions(
                    format=_FORMAT.value,
                    heat_maps=Path(_HEAT_MAPS.value).expanduser() if _HEAT_MAPS.value else None,
                    heat_map_format=_MAP_FORMAT.value,
                    false_alarm_rate=_RATE.value,
                    threshold=THRESHOLD.value,
                    batch_size=_BATCH.value,
                    max_megapixels=_MEGAPIXELS.value,
                ),
                lines=sys.stdin.buffer if images == named_files.STANDARD_INPUT else (),
            )
    except BrokenPipeError:  # the reader of the rows has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if summary.errors:
        sys.exit(1)


@contextlib.contextmanager
def _output(images: str) -> Iterator[TextIO]:
    """The output for rows. A file is called FILE.partial until the last row is written, also if the process is killed.

    If names come on standard input, Ctrl-C and SIGTERM are the end.
    """
    if not _OUTPUT.value:
        with files.naming("standard output"):
            yield sys.stdout
        return
    path = Path(_OUTPUT.value).expanduser()
    if path.exists():
        raise InputError(f"--output={path} already exists; give another file.")
    named_files.refuse_inside(path, images, "--output", is_folder=False)
    files.check_writable(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with files.naming(partial), partial.open("a", encoding="utf-8", newline="") as file:
        if not partials.lock(file.fileno()):
            raise InputError(f"Another process is writing {partial}; wait for it, or give another --output.")
        file.truncate(0)  # left by a prediction that was killed
        try:
            yield file
            file.flush()
        except BaseException as error:
            with contextlib.suppress(OSError):  # a full disk
                file.flush()
            if not partial.stat().st_size:  # refused, stopped, or disk full before the first row
                partial.unlink()
            elif isinstance(error, KeyboardInterrupt) and images == named_files.STANDARD_INPUT:
                partial.replace(path)
            raise
        partial.replace(path)


if __name__ == "__main__":
    run()
