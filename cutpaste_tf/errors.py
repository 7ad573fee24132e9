"""Exceptions that are not bugs: something the user can fix, or a signal to stop."""


class InputError(ValueError):
    """Invalid input; the message says what was found, what was expected, and how to fix it.

    The mains print it as one line and exit with code 2. Every other exception is a bug and keeps its
    traceback.
    """


class NoRoomError(InputError):
    """A disk has no room for working data."""


class SignalError(KeyboardInterrupt):
    """A signal ended the work: Ctrl-C, or the one that systems send before they kill (SIGTERM).

    The mains print its message and exit with 128 + its number. It is a `KeyboardInterrupt`, so that code which handles
    Ctrl-C properly handles every such signal.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str = "Stopped."):
        super().__init__(message)
        self.number = number
