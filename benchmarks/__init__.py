"""Comparisons of speed with a yardstick in the same run, and experiments: `python -m benchmarks.NAME`."""

import cutpaste_tf  # noqa: F401  sets TensorFlow's environment before a benchmark imports it
