"""The density of normal features (Section 2.3). In: features. Out: log densities, higher = more normal.

Read `density.py` first: what all have in common, in scikit-learn's manner. `gaussian` and `kernel` are for features of
images, and `densities` is the dict of them; `low_rank` and `patch_density` are for those of patches. NumPy only.
"""
