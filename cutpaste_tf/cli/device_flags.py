"""The flag for the devices to use."""

from absl import flags

from cutpaste_tf import devices

DEVICES = flags.DEFINE_string(
    "devices", devices.AUTO, "Number of GPUs or TPUs, or CPUs if there are none, that share each batch; auto: all."
)
