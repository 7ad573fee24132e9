"""Exceptions that are no bugs: something the user can fix, or a signal to stop."""


class InputError(ValueError):
    """Something the user gave is wrong; the message says what was found, expected, and how to fix it.

    The mains print it as one line and exit with code 2. Every other exception is a bug and keeps its
    traceback.
    """


class NoRoomError(InputError):
    """A disk has no room for what is worked on."""


class SignalError(KeyboardInterrupt):
    """A signal has ended the work: Ctrl-C's, or the one that systems send before they kill (SIGTERM).

    The mains print its message and exit with 128 + its number. It is a `KeyboardInterrupt`, so that whatever ends
    properly on Ctrl-C does so on every such signal.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str = "Stopped."):
        super().__init__(message)
        self.number = number
