"""What is done with a detector after its evaluation. In: a detector. Out: rows for files, or one file to deploy.

Read `predict.py` and `export.py` first. `stream` and `rows` score files one batch after the other; `saved_model` and
`single_precision` write formats, `comparison` says by how much the latter's scores differ from the evaluation's.
"""
