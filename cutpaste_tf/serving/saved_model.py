"""A graph as a SavedModel, for TensorFlow Serving or for TensorFlow without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cutpaste_tf.backend import keras, tf
from cutpaste_tf.detection.graphs import resizing
from cutpaste_tf.detection.graphs.graph import Graph
from cutpaste_tf.settings.sizes import Size


def write(folder: Path, graph: Graph, size: Size) -> None:
    """Writes a SavedModel whose outputs are those of `graph.Outputs`.

    Its endpoint `serve`, also called `serving_default`, takes `images` uint8 [count, height, width, 3] of any size.

    Args:
        folder: the folder to write.
        graph: the graph in double precision.
        size: (height, width) of its input.
    """
    resize = resizing.Resizer(size)
    score = tf.function(graph, input_signature=[tf.TensorSpec([None, *size, 3], tf.uint8)], autograph=False)

    def serve(images: Any) -> dict[str, Any]:
        return score(resize(images))._asdict()

    archive: Any = keras.export.ExportArchive()
    # Not `archive.track`: it writes every variable a second time (keras#23553).
    archive.add_endpoint(
        "serve", serve, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")]
    )
    archive.write_out(str(folder), verbose=False)
