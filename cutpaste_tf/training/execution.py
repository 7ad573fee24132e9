"""How Keras executes a run's steps. This is not part of the method, so it may change when a run is resumed."""

from typing import NamedTuple

from cutpaste_tf import devices, environment
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.schedule import ScheduleSettings

JIT_COMPILE = {"auto": "auto", "yes": True, "no": False}  # the values that Keras' `compile` expects


class Execution(NamedTuple):
    """How steps are executed. This may change the order of sums, and so the last bits of a result.

    Attributes:
        steps_per_execution: number of steps that Keras launches together; nothing is shown or saved in between.
        jit_compile: whether XLA compiles the step: `yes`, `no`, or `auto` (Keras decides).
    """

    steps_per_execution: int = 1
    jit_compile: str = "auto"

    def check(self, settings: ScheduleSettings) -> None:
        """Checks that a run can be executed this way.

        Raises:
            InputError: it cannot be.
        """
        if self.jit_compile not in JIT_COMPILE:
            raise InputError(f"--jit_compile={self.jit_compile} must be one of: {', '.join(JIT_COMPILE)}.")
        if self.steps_per_execution < 1 or settings.steps_per_epoch % self.steps_per_execution:
            raise InputError(
                f"--steps_per_execution={self.steps_per_execution} must divide "
                f"--steps_per_epoch={settings.steps_per_epoch}."
            )

    def check_devices(self) -> None:
        """Checks that the devices in use can execute a run this way.

        Raises:
            InputError: they cannot.
        """
        if len(devices.names()) == 1 or environment.backend() != "tensorflow":
            return
        # With MirroredStrategy, XLA does not find the other device's variables, and synchronized batch norm fails in a
        # loop of steps (TensorFlow 2.21).
        if self.steps_per_execution > 1 or self.jit_compile == "yes":
            name = "jit_compile=yes" if self.jit_compile == "yes" else f"steps_per_execution={self.steps_per_execution}"
            raise InputError(
                f"--{name} does not work on {len(devices.names())} devices with TensorFlow; give --devices=1, set "
                "KERAS_BACKEND=jax, or omit the flag."
            )
