"""Evaluation. In: the folder of a run, and test images. Out: scores, figures of merit, pictures.

Start with `evaluate.py`: check (`plan`), load, score, report (`results`). `metrics` and `pixel_metrics` are figures of
merit, `decisions` evaluates the threshold, and `figures` presents the results.
"""
