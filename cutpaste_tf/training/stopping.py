"""Signals that stop training after the current step, with a checkpoint."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from cutpaste_tf.errors import SignalError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; a time limit, `docker stop`, a preempted machine


class Stop:
    """A request to stop.

    Attributes:
        number: number of the signal that was received; 0 if none was.
    """

    def __init__(self) -> None:
        self.number = 0


@contextlib.contextmanager
def requests() -> Iterator[Stop]:
    """Records signals instead of letting them end the block; the block can check for them.

    A second signal has its original effect. A signal that the process ignores stays ignored. Outside the main thread,
    where Python cannot handle signals, nothing changes.

    Raises:
        SignalError: at the end of the block, if a signal was received.
    """
    stop = Stop()
    before = {}

    def note(number: int, _: FrameType | None) -> None:
        stop.number = number
        _restore(before)
        with contextlib.suppress(OSError):  # print would fail if the signal interrupted another print
            os.write(2, b"\nStopping once the current step is done and saved. Repeat to stop at once.\n")

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        for number in before:
            signal.signal(number, note)
    try:
        yield stop
    finally:
        _restore(before)
    if stop.number:
        raise SignalError(stop.number)


def _restore(handlers: dict) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
