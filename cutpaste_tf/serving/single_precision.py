"""A single-precision graph as one file for ONNX Runtime or LiteRT; it takes resized images.

Neither runtime resizes like Pillow, so images must have the detector's size. Without double precision, scores differ
from the evaluation's, see `comparison.py`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cutpaste_tf import environment
from cutpaste_tf.backend import tf
from cutpaste_tf.detection.graphs.graph import Graph, Outputs
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.sizes import Size

_TOGETHER = 8  # images per batch
_OPSET = 17  # the newest ONNX opset that was tested with tf2onnx


class Format(NamedTuple):
    """A file format.

    Attributes:
        file: name of the file.
        packages: packages needed to write and run it.
        convert: a tf.function of images uint8 [count, height, width, 3] -> the file's content.
        load: (file, number of threads or 0 for the runtime's default) -> a function from images uint8 [count, height,
            width, 3] to the outputs by name.
    """

    file: str
    packages: tuple[str, ...]
    convert: Callable[[Any], bytes]
    load: Callable[[Path, int], Callable[[np.ndarray], dict[str, np.ndarray]]]


def _to_onnx(function: Any) -> bytes:
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=_OPSET)
    return model.SerializeToString()


def _load_onnx(path: Path, threads: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"images": image}), strict=True))


def _to_litert(function: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:  # inputs and outputs get names only from a SavedModel
        module: Any = tf.Module()
        module.serve = function
        module.retained_variables = function.get_concrete_function().graph.variables  # only tracked variables are saved
        tf.saved_model.save(module, folder, signatures={"serve": function})
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"]).convert()


def _load_litert(path: Path, threads: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter

    runner: Any = Interpreter(model_path=str(path), num_threads=threads or None).get_signature_runner("serve")
    return lambda image: runner(images=image)


FORMATS = {
    "onnx": Format("model.onnx", ("tf2onnx", "onnxruntime"), _to_onnx, _load_onnx),
    "litert": Format("model.tflite", ("ai_edge_litert",), _to_litert, _load_litert),
}


def check(name: str) -> None:
    """Checks that a format's packages are installed.

    Raises:
        InputError: one is missing.
    """
    environment.require(FORMATS[name].packages, f"--format={name}", "export")


def write(path: Path, name: str, graph: Graph, size: Size) -> None:
    """Writes a graph in one of FORMATS.

    Args:
        path: path of the file.
        name: name of the format.
        graph: the graph in single precision.
        size: (height, width) of its input.

    Raises:
        InputError: the network uses an operation that the format does not support.
    """
    signature = [tf.TensorSpec([None, *size, 3], tf.uint8, name="images")]
    function = tf.function(lambda images: graph(images)._asdict(), input_signature=signature, autograph=False)
    try:
        content = FORMATS[name].convert(function)
    except Exception as error:  # converters raise all kinds of exceptions
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"The detector cannot be written as {name} ({reason}); use --format=saved_model.") from error
    path.write_bytes(content)


def score(path: Path, name: str, images: np.ndarray) -> Outputs:
    """Scores images uint8 [count, height, width, 3] with a file, a few at a time.

    Raises:
        InputError: the format's runtime cannot read the file.
    """
    try:
        run = FORMATS[name].load(path, 0)
        parts = [run(images[start : start + _TOGETHER]) for start in range(0, len(images), _TOGETHER)]
    except Exception as error:  # as above
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path.name} was written but cannot be run ({reason}); use --format=saved_model.") from error
    return Outputs(*(np.concatenate([part[field] for part in parts]) for field in Outputs._fields))
