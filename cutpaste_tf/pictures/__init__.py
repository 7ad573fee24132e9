"""Plots and the report page. In: arrays. Out: sheets of views, curves, heat maps.

Start with `plots.py`; `heat_map_plots` draws heat maps, `drawing` configures Matplotlib.
"""
