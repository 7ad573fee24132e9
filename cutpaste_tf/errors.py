"""Exceptions that are not bugs: something the user can fix, or a signal to stop."""


class InputError(ValueError):
    """Invalid input; the message says what was found, what was expected, and how to fix it.

    The mains print it as one line and exit with code 2. Every other exception is a bug and keeps its traceback.
    """


class NoRoomError(InputError):
    """A disk has no room for working data."""


class SignalError(KeyboardInterrupt):
    """A signal ended the work: Ctrl-C, or SIGTERM, which systems send before they kill a process.

    The mains print its message and exit with 128 + its number. It is a `KeyboardInterrupt`, so code that handles Ctrl-C
    properly handles all of these signals.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int, message: str = "Stopped."):
        super().__init__(message)
        self.number = number
