"""The flag for a given threshold."""

from absl import flags

THRESHOLD = flags.DEFINE_float(
    "threshold", None, "Call scores above this anomalous, instead of using the threshold from the false alarm rate."
)
