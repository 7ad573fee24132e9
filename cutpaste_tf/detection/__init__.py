"""Scores of images. In: a network and normal images. Out: a `Detector`, which scores, localizes, saves and exports.

Start with `detector.py`, the common interface, then `image_detector` and `patch_detector`. `combination`, `ensemble`,
`exported_detector` and the baseline `pixel_detector` implement it too, and `loading` picks the right one.
`image_features` and `dense` compute the features of images and of their patches, `heat_maps` spreads patch scores over
the image, `gradcam` localizes with an image model, `calibration` sets thresholds, `cache` caches features, and `graphs`
holds the graphs to export.
"""
