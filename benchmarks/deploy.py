"""Exports: seconds per image in each format and with the detector they were made from, in one run.

  python -m benchmarks.deploy --run_dir=RUN [--sizes=256,900] [--threads=1,2] [--rounds=5]

Each number of threads runs in a separate process. Both scores and heat maps are computed. Images of other sizes are
resized to the detector's; for ONNX Runtime and LiteRT, which take a single size, Pillow does this. The best round
counts.
"""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image
from threadpoolctl import threadpool_limits

from cutpaste_tf.backend import tf
from cutpaste_tf.detection import loading
from cutpaste_tf.images.resizing import resize
from cutpaste_tf.progress import no_report
from cutpaste_tf.serving import export as exporting
from cutpaste_tf.serving import single_precision
from cutpaste_tf.serving.export import ExportOptions

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of a complete run.", required=True)
_SIZES = flags.DEFINE_list("sizes", ["256", "900"], "Sides of the images in pixels.")
_THREADS = flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; the best of each contestant counts.")
_EXPORTS = flags.DEFINE_string("exports", "", "Where exports lie, in the processes that measure; not to be given.")


def main(_: list[str]) -> None:
    """Exports, and measures in processes of their own."""
    if _EXPORTS.value:
        _measure(Path(_EXPORTS.value), int(_THREADS.value[0]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in exporting.FORMATS:
            start = time.perf_counter()
            exporting.export(_RUN_DIR.value, Path(folder) / name, options=ExportOptions(format=name), report=no_report)
            seconds, size = time.perf_counter() - start, sum(map(_size, (Path(folder) / name).rglob("*")))
            print(f"{name:<12} written in {seconds:.0f} s, {size / 1e6:.0f} MB", flush=True)
        for threads in _THREADS.value:
            words = [f"--run_dir={_RUN_DIR.value}", f"--exports={folder}", f"--threads={threads}"]
            words += [f"--sizes={','.join(_SIZES.value)}", f"--rounds={_ROUNDS.value}"]
            subprocess.run([sys.executable, "-m", "benchmarks.deploy", *words], check=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _measure(folder: Path, threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    detector = loading.load(_RUN_DIR.value)
    height, width = detector.size
    model = tf.saved_model.load(str(folder / exporting.SAVED_MODEL / "1"))
    serve = model.signatures["serving_default"]
    files = {
        name: single_precision.FORMATS[name].load(folder / name / single_precision.FORMATS[name].file, threads)
        for name in single_precision.FORMATS
    }
    print(f"{threads} thread{'s' if threads > 1 else ''}, images that the network sees at {width} x {height} px")
    for size in map(int, _SIZES.value):
        image = np.asarray(Image.effect_mandelbrot((size, size), (-2, -1.2, 1, 1.2), 60).convert("RGB"))
        single, many = image[None], np.repeat(image[None], 8, axis=0)

        def resized(image: np.ndarray = image) -> np.ndarray:
            return np.asarray(resize(Image.fromarray(image), width, height))[None]

        contestants: dict[str, tuple[int, Callable[[], object]]] = {
            "Detector.score": (1, lambda single=single: detector.score(single, heat_maps=True)),
            "SavedModel": (1, lambda single=single: serve(images=tf.constant(single))["score"].numpy()),
            "SavedModel, 8 at a time": (8, lambda many=many: serve(images=tf.constant(many))["score"].numpy()),
            **{f"{name}, Pillow": (1, lambda run=run: run(resized())) for name, run in files.items()},
        }
        best = dict.fromkeys(contestants, math.inf)
        with threadpool_limits(threads):
            for turn in range(_ROUNDS.value + 1):
                for name, (count, function) in contestants.items():
                    start = time.perf_counter()
                    function()
                    if turn:  # the first is for compilation
                        best[name] = min(best[name], (time.perf_counter() - start) / count)
        for name, seconds in best.items():
            print(f"  {size:4} px  {name:<28}{seconds:8.3f} s/image {1 / seconds:8.1f} images/s", flush=True)


if __name__ == "__main__":
    app.run(main)
