"""Scripts that print a ratio, with the yardstick in the same run: `python -m benchmarks.NAME`."""

import cutpaste_tf  # noqa: F401  sets TensorFlow's environment before a benchmark imports it
