"""Judging a run. In: its folder and test images. Out: scores, figures of merit, pictures.

Read `scoring.py` first: scores from what the run's folder keeps, or from its network. `judging` writes the results,
`metrics` and `pixel_metrics` are the figures.
"""
