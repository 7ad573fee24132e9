"""Scores of images. In: a network and normal images. Out: a `Detector`, which scores, localizes, saves and exports.

Read `detector.py` first, the one interface, then `image_detector` and `patch_detector`; `ensemble`, `exported_detector`
and the baseline `pixel_detector` offer the same, and `loading` knows which is which. `image_features` and `dense` give the
features of images and of their patches, `heat_maps` spreads the scores of patches over the image, `gradcam` localizes
with a model of whole images, `calibration` gives thresholds, `cache` keeps features, `graphs` are what is exported.
"""
