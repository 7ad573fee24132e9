"""Length of training and learning rates (Appendix A.1, A.3 and A.4)."""

import dataclasses
from typing import NamedTuple

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.base import Settings, setting


class Phase(NamedTuple):
    """A part of training with its own learning rate cycle.

    Attributes:
        start, end: its first step, and the step after its last.
        learning_rate: the initial value; it decays to 0 along one cosine cycle.
        head_only: whether the backbone is frozen.
    """

    start: int
    end: int
    learning_rate: float
    head_only: bool


@dataclasses.dataclass(frozen=True)
class ScheduleSettings(Settings):
    """Steps, batches and the optimizer (A.1, A.3 and A.4).

    0 or -1 means the paper's value for the backbone.
    """

    epochs: int = setting(
        -1,
        "Epochs for all layers; 0 together with head_epochs 0 trains nothing. -1: 256, EfficientNet 64.",
        source="A.3: 65k steps; A.4",
        at_least=-1,
    )
    head_epochs: int = setting(
        -1, "Epochs for the head alone, before those for all layers. -1: 0, EfficientNet 10.", source="A.4", at_least=-1
    )
    steps_per_epoch: int = setting(256, "Parameter updates per epoch.", source="A.3, footnote 5", at_least=1)
    batch_size: int = setting(
        0,
        "Views per step, over all classes. 0: 32 of each class, EfficientNet 24 in total.",
        source="A.1: 64, 96 for 3-way; A.4",
        at_least=0,
    )
    # No warm-up; one cosine cycle to 0 in each phase.
    learning_rate: float = setting(
        0.0, "Initial learning rate for all layers. 0: 0.03, EfficientNet 0.0001.", source="A.1; A.4"
    )
    head_learning_rate: float = setting(
        0.03, "Initial learning rate while only the head is trained.", source="A.4", above=0
    )
    momentum: float = setting(0.9, "Momentum of SGD (no Nesterov).", source="A.1", at_least=0)
    l2: float = setting(
        3e-5, "L2 coefficient c: c * sum(w^2) / 2 is added to the loss.", source="A.1; the half from DROC", at_least=0
    )
    l2_batch_norm: bool = setting(True, "Apply L2 to batch norm's gamma and beta too.", source="DROC")
    calibrate_batch_norm: bool = setting(
        False, "After the last step, replace batch norm's moving statistics with those of the training images."
    )

    def check(self) -> None:
        """Checks rules other than ranges."""
        if self.learning_rate < 0:
            raise InputError(f"--learning_rate={self.learning_rate} must be greater than 0.")
        if self.momentum >= 1:
            raise InputError(f"--momentum={self.momentum} must be less than 1.")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The training phases that have steps: first only the head, then all layers (A.4).

        Raises:
            ValueError: their lengths are not resolved.
        """
        if min(self.epochs, self.head_epochs) < 0:
            raise ValueError("epochs are left open: take the schedule of Config.resolved()")
        boundary = self.head_epochs * self.steps_per_epoch
        phases = (
            Phase(0, boundary, self.head_learning_rate, True),
            Phase(boundary, boundary + self.epochs * self.steps_per_epoch, self.learning_rate, False),
        )
        return tuple(phase for phase in phases if phase.end > phase.start)

    @property
    def total_steps(self) -> int:
        """Parameter updates in the whole run."""
        return (self.head_epochs + self.epochs) * self.steps_per_epoch
