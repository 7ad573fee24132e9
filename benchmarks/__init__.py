"""Scripts that print a ratio, with the yardstick in the same run: `python -m benchmarks.NAME`."""
