"""A graph as a SavedModel, which TensorFlow loads without this package and TensorFlow Serving serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cutpaste_tf.backend import keras, tf
from cutpaste_tf.exporting import decoding, resizing
from cutpaste_tf.exporting.graph import Graph

ENCODED = "serve_encoded"  # the endpoint for files' bytes


def write(folder: Path, graph: Graph, side: int) -> None:
    """Writes a SavedModel with two endpoints, whose outputs are those of `graph.Outputs`.

    `serve`, also called `serving_default`, takes `images` uint8 [count, height, width, 3] of any size, `serve_encoded`
    `image_bytes` string [count], the bytes of files.

    Args:
        folder: to write.
        graph: in double precision.
        side: that it takes, in pixels.
    """
    resize = resizing.Resizer(side)
    # Both endpoints call the one graph.
    score = tf.function(graph, input_signature=[tf.TensorSpec([None, side, side, 3], tf.uint8)], autograph=False)

    def serve(images: Any) -> dict[str, Any]:
        return score(resize(images))._asdict()

    def read(content: Any) -> Any:
        return resize(decoding.decode(content)[None])[0]

    def serve_encoded(image_bytes: Any) -> dict[str, Any]:
        images = tf.map_fn(read, image_bytes, fn_output_signature=tf.TensorSpec([side, side, 3], tf.uint8))
        return score(images)._asdict()

    archive: Any = keras.export.ExportArchive()
    # Not `archive.track`: it writes every variable a second time (keras#23553).
    archive.add_endpoint(
        "serve", serve, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")]
    )
    archive.add_endpoint(ENCODED, serve_encoded, input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    archive.write_out(str(folder), verbose=False)
