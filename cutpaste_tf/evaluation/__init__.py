"""Evaluation. In: the folder of a run, and test images. Out: scores, figures of merit, pictures.

Read `evaluate.py` first: check (`plan`), load, score, report (`results`). `metrics` and `pixel_metrics` are the figures,
`decisions` what the threshold decides, `figures` what people read of them.
"""
