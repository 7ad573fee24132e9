"""PNG files for people. In: arrays. Out: sheets of views, curves, heat maps.

Read `plots.py` first; `heat_map_plots` draws what localizes, `drawing` sets Matplotlib up.
"""
