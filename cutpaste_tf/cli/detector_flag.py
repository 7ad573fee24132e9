"""The flag for the detector to use."""

from absl import flags

DETECTOR = flags.DEFINE_string(
    "detector",
    None,
    "Folder of a run, a detector copied from one, or an export. Several runs, separated by commas, form an ensemble.",
)
