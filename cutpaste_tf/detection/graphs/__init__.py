"""Detectors as TensorFlow graphs, for export. In: a fitted detector. Out: a function from pixels to scores.

Read `graph.py` first; `images`, `patches` and `densities` are the graphs of what stands in `detection` and `density`.
"""
