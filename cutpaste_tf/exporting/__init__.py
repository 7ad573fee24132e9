"""A detector as one file that scores as the evaluation does. In: a `detector.Detector`. Out: a folder, see `record.py`.

Read `graph.py` first: a detector as one TensorFlow graph, of `densities` for image models and `patches` for patch
models. `saved_model` puts `decoding` and `resizing` before it, in double precision; `single_precision` writes it for
ONNX Runtime and LiteRT, and `comparison` says by how much those scores differ. `exported` scores with an export.
"""
