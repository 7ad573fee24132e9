"""Files for ONNX Runtime and LiteRT score nearly as the detector they were made of."""

import numpy as np
import pytest
from models import MODELS, fitted_and_pictures

from cutpaste_tf.detection.graphs.graph import Graph
from cutpaste_tf.errors import InputError
from cutpaste_tf.serving import single_precision

# Packages of `pip install .[export]`.
_QUICK = "gaussian", "per location, fast"


def write(path, format, detector, threshold):
    graph = Graph(detector.graph(single=True), detector.calibration.scores, threshold, single=True)
    single_precision.write(path, format, graph, detector.size)


@pytest.mark.parametrize("format", single_precision.FORMATS)
@pytest.mark.parametrize(
    "name",
    [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "bfloat16"],
)
def test_a_file_scores_nearly_as_the_detector(name, format, tmp_path):
    for package in single_precision.FORMATS[format].packages:
        pytest.importorskip(package)
    detector, images = fitted_and_pictures(MODELS[name])
    path = tmp_path / "model"
    scores, maps, _ = detector.score(images, heat_maps=True)
    threshold = float(np.sort(scores)[2:4].mean())
    write(path, format, detector, threshold)
    outputs = single_precision.score(path, format, images)
    extent = np.ptp(np.concatenate([scores, detector.calibration.scores]))
    np.testing.assert_allclose(outputs.score, scores, rtol=0, atol=1e-4 * extent)
    np.testing.assert_array_equal(outputs.is_anomalous, scores > threshold)
    np.testing.assert_allclose(outputs.heat_map, maps, rtol=0, atol=1e-3 * maps.max())


def test_what_a_format_lacks_is_told_in_a_line(tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    detector, images = fitted_and_pictures(MODELS["bfloat16"])

    def write_and_score():
        write(tmp_path / "model", "onnx", detector, 0.0)
        single_precision.score(tmp_path / "model", "onnx", images)

    with pytest.raises(InputError, match="use --format=saved_model"):
        write_and_score()
