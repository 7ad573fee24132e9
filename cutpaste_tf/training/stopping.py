"""Signals that ask training to stop: it ends after the step at hand, with a checkpoint."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from cutpaste_tf.errors import SignalError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; a time limit, `docker stop`, a machine that is taken back


class Stop:
    """What has been asked for.

    Attributes:
        number: of the signal that has come; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0


@contextlib.contextmanager
def requests() -> Iterator[Stop]:
    """Keeps signals from ending the block: they are noted, for the block to see.

    The second one does what it would have done before. A signal that the process ignores stays ignored, and in another
    thread than the main one, where Python has no signals, all stays as it is.

    Raises:
        SignalError: at the end, a signal has come.
    """
    stop = Stop()
    before = {}

    def note(number: int, _: FrameType | None) -> None:
        stop.number = number
        _restore(before)
        with contextlib.suppress(OSError):  # print would fail where the signal came amid another print
            os.write(2, b"\nStopping when the step at hand is done and saved. The same again stops at once.\n")

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
