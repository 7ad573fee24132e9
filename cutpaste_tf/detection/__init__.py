"""Scores of images. In: a network and normal images. Out: a `Detector`, which scores, localizes, saves and loads.

Read `detector.py` first. `dense` gives the features of an image's patches, `heat_maps` spreads their scores over the
image, `gradcam` localizes with a model of whole images, `embeddings` keeps features from one evaluation to the next.
"""
