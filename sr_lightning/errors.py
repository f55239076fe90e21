"""The exceptions that users are meant to read."""

__all__ = ["StoppedError", "UserError"]


class UserError(Exception):
    """Something the user can mend.

    The message is one or two plain sentences: which file or key is wrong, and what to do about it.
    The command line prints it alone, without a traceback, and exits with its status.
    """

    status = 2


class StoppedError(UserError):
    """The user asked to stop; the message says how to go on."""

    status = 130
