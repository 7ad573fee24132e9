"""Evaluation. In: the folder of a run, and test images. Out: scores, metrics, plots and heat maps.

Start with `evaluate.py`: check (`plan`), load, score, report (`results`). `metrics` and `pixel_metrics` compute the
metrics, `decisions` evaluates the threshold, and `figures` presents the results.
"""
