"""The density of normal features (Section 2.3). In: features. Out: log densities, higher = more normal.

Start with `density.py`, the common interface, modeled on scikit-learn. `gaussian` and `kernel` are for features of
images, listed in `densities`; `low_rank` and `patch_density` are for features of patches, `nearest` for both. Nothing
here uses TensorFlow.
"""
