"""The one table of exit codes (kisscluster(7)); only OK permits the next step."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of every command but kc-fence-peer (DRBD's codes)."""

    OK = 0  # yes, or done, or already so
    NO = 1
    USAGE = 2
    UNAVAILABLE = 69  # something needed is not available
    BUG = 70
    AGAIN = 75  # stale or busy, try again
    PERMISSION = 77
    CONFIG = 78
    NO_QUORUM = 106
    UNSAFE = 107  # unsafe, needs --force
    CANNOT_TELL = 112
    TIMEOUT = 124


class Failure(Exception):
    """A refusal: its exit status and one line for the person who reads it."""

    def __init__(self, status: Exit, message: str) -> None:
        super().__init__(message)
        self.status = status
