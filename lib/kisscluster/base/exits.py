"""The one table of exit codes (kisscluster(7)); only OK permits the next step."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of every command but kc-fence-peer (DRBD's codes)."""

    OK = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 69
    BUG = 70
    AGAIN = 75
    PERMISSION = 77
    CONFIG = 78
    NO_QUORUM = 106
    UNSAFE = 107
    CANNOT_TELL = 112
    TIMEOUT = 124


MEANING = {
    Exit.OK: "yes, or done, or already so",
    Exit.NO: "no",
    Exit.USAGE: "usage",
    Exit.UNAVAILABLE: "something needed is not available",
    Exit.BUG: "bug",
    Exit.AGAIN: "stale or busy, try again",
    Exit.PERMISSION: "permission",
    Exit.CONFIG: "configuration",
    Exit.NO_QUORUM: "no quorum",
    Exit.UNSAFE: "unsafe, needs --force",
    Exit.CANNOT_TELL: "cannot tell",
    Exit.TIMEOUT: "timed out",
}


class Failure(Exception):
    """A refusal: its exit status and one line for the person who reads it."""

    def __init__(self, status: Exit, message: str) -> None:
        super().__init__(message)
        self.status = status
