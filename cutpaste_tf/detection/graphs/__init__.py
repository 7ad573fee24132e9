"""Detectors as TensorFlow graphs, for export. In: a fitted detector. Out: a function from pixels to scores.

Start with `graph.py`. `images`, `patches` and `densities` are graph versions of code in `detection` and `density`.
"""
