"""The one exception that means: the user can mend this."""


class InputError(ValueError):
    """Something the user gave is wrong; the message says what was found, expected, and how to fix it.

    The mains print it as one line and exit with code 2. Every other exception is a bug and keeps its
    traceback.
    """


class NoRoomError(InputError):
    """A disk has no room for what is worked on."""
