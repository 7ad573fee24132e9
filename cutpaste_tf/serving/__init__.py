"""Using a detector after its evaluation. In: a detector. Out: rows for files, or one file to deploy.

Start with `predict.py` and `export.py`. `stream` and `rows` score files batch by batch; `saved_model` and
`single_precision` write formats, and `comparison` measures how much the latter's scores differ from the evaluation's.
"""
