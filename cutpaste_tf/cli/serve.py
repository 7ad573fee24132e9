"""Serves a detector over HTTP.

  python serve_main.py --detector=EXPORT [--port=8000] [--host=127.0.0.1]
  curl --data-binary @part.png 'http://127.0.0.1:8000/predict?heat_map=true'

EXPORT is an export as SavedModel, the folder of a run, or a detector copied from one. Answers are JSON: score, p-value,
decision, the boxes of a patch model, and the heat map. http://127.0.0.1:8000/docs describes the service. It needs
`pip install 'cutpaste_tf[serve]'`.
"""

from absl import flags

from cutpaste_tf import environment
from cutpaste_tf.cli.detector_flag import DETECTOR
from cutpaste_tf.cli.main import folders_of, required, run_main
from cutpaste_tf.cli.threshold_flag import THRESHOLD
from cutpaste_tf.progress import say

_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: all of this machine.")
_PORT = flags.DEFINE_integer("port", 8000, "Port to listen on.", lower_bound=1, upper_bound=65535)
_MEGABYTES = flags.DEFINE_float("max_megabytes", 64.0, "Largest request, in 10^6 bytes.", lower_bound=0.0)
_WAITING = 64  # requests at a time; more are answered with 503


def run() -> None:
    """The command."""
    run_main(_main, __doc__)


def _main() -> None:
    folders = folders_of(required(DETECTOR))
    environment.require(("fastapi", "uvicorn"), "serve_main.py", "serve")
    import uvicorn

    from cutpaste_tf.detection.loading import load
    from cutpaste_tf.serving.server import application

    detector = load(folders).with_threshold(THRESHOLD.value)
    app = application(detector, max_megabytes=_MEGABYTES.value)
    say(f"Serving {detector.description} at http://{_HOST.value}:{_PORT.value}/predict. Press Ctrl-C to stop.")
    uvicorn.run(app, host=_HOST.value, port=_PORT.value, limit_concurrency=_WAITING, log_level="warning")


if __name__ == "__main__":
    run()
