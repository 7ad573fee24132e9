"""Serves a detector over HTTP.

  python serve_main.py --detector=EXPORT [--port=8000] [--host=127.0.0.1]
  curl --data-binary @part.png 'http://127.0.0.1:8000/predict?heat_map=true'

EXPORT is an export as SavedModel, the folder of a run, or a detector copied from one. Answers are JSON: score, p-value,
decision, the boxes of a patch model, and the heat map. http://127.0.0.1:8000/docs describes the service. It needs
`pip install 'cutpaste_tf[serve]'`.
"""

import importlib.util

from absl import flags

from cutpaste_tf.cli.main import folders_of, required, run_main
from cutpaste_tf.errors import InputError
from cutpaste_tf.progress import say

_DETECTOR = flags.DEFINE_string(
    "detector",
    None,
    "Folder of a run, of a detector copied from one, or of an export; several runs, with commas, are an ensemble.",
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: all of this machine.")
_PORT = flags.DEFINE_integer("port", 8000, "Port to listen on.", lower_bound=1, upper_bound=65535)
_THRESHOLD = flags.DEFINE_float(
    "threshold", None, "Scores above it are anomalous, in place of the threshold that the false alarm rate gives."
)
_MEGABYTES = flags.DEFINE_float("max_megabytes", 64.0, "Largest request, in 10^6 bytes.", lower_bound=0.0)
_WAITING = 64  # requests at a time; more are answered by 503


def run() -> None:
    """The command."""
    run_main(_main, __doc__)


def _main() -> None:
    folders = folders_of(required(_DETECTOR))
    if missing := [name for name in ("fastapi", "uvicorn") if not importlib.util.find_spec(name)]:
        raise InputError(f"{' and '.join(missing)} missing: pip install 'fastapi>=0.115,<1' 'uvicorn>=0.30,<1'.")
    import uvicorn

    from cutpaste_tf.detection.loading import load
    from cutpaste_tf.serving.server import application

    detector = load(folders).with_threshold(_THRESHOLD.value)
    app = application(detector, max_megabytes=_MEGABYTES.value)
    say(f"Serving {detector.description} at http://{_HOST.value}:{_PORT.value}/predict. Ctrl-C ends it.")
    uvicorn.run(app, host=_HOST.value, port=_PORT.value, limit_concurrency=_WAITING, log_level="warning")


if __name__ == "__main__":
    run()
