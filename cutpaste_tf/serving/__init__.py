"""Using a detector after its evaluation. In: a detector. Out: rows for files, or a model to deploy.

Start with `predict.py` and `export.py`. `stream` and `rows` score files batch by batch. `saved_model` and
`single_precision` write model formats; `comparison` measures how much single-precision scores differ from the
evaluation's.
"""
