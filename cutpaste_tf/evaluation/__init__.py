"""Evaluation. In: the folder of a run, and test images. Out: scores, figures of merit, pictures.

Read `evaluate.py` first: check (`plan`), load, score, report (`results`). `metrics` and `pixel_metrics` are figures of
merit, `decisions` says what the threshold decides, `figures` shows people all of it.
"""
