"""Predictions for files, one after the other: what `predict_main.py` does between its flags and the detector."""
