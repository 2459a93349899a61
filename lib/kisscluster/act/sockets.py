"""QEMU's sockets: connect, and say who else is attached."""

import os
import re
import socket
import time
from typing import NamedTuple

from kisscluster.base.exits import Exit, Failure
from kisscluster.base.run import run

PAUSE = 0.1
ROW = re.compile(r"(\S+) (\d+)\s+\S+ (\d+)(?:\s+users:\(\((.*)\)\))?")


class Row(NamedTuple):
    """A line of `ss -xpnH`: one end of a connection."""

    path: str
    inode: int
    peer: int
    users: str


def connect(path: str, timeout: float) -> socket.socket:
    """A connection to a socket of QEMU's; raises Failure PERMISSION, or UNAVAILABLE when nobody listens."""
    out = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    out.settimeout(timeout)
    try:
        out.connect(path)
    except OSError as error:
        out.close()
        denied = isinstance(error, PermissionError)
        status, hint = (Exit.PERMISSION, ": are you root?") if denied else (Exit.UNAVAILABLE, "")
        raise Failure(status, f"{path}: {error.strerror or error}{hint}") from None
    return out


def _rows() -> list[Row]:
    found = (ROW.search(line) for line in run(["ss", "-xpnH"], 5.0).stdout.splitlines())
    return [Row(row[1], int(row[2]), int(row[3]), row[4] or "") for row in found if row]


def _who(users: str) -> str:
    """`"socat",pid=12,fd=3` and its terminal, in words."""
    found = re.search(r'"([^"]*)",pid=([0-9]+)', users)
    if not found:
        return "somebody"
    try:
        terminal = os.readlink(f"/proc/{found[2]}/fd/0")
    except OSError:
        terminal = ""
    return f"{found[1]}, process {found[2]}" + (f" on {terminal}" if terminal.startswith("/dev/") else "")


def attached(path: str) -> str:
    """Who has the one connection that QEMU serves on this socket, or nothing."""
    rows = _rows()
    ends = {row.inode: row for row in rows}
    # one that only waits in the backlog has no inode on QEMU's side
    taken = [row for row in rows if row.path == path and row.inode and row.peer]
    return _who(ends[taken[0].peer].users if taken[0].peer in ends else "") if taken else ""


def accepted(connection: socket.socket, path: str, patience: float) -> None:
    """Wait until QEMU serves this connection: a second one connects, too, and hears nothing (FACTS 3).

    Raises Failure UNAVAILABLE; attached() says whether somebody else is why.
    """
    mine = os.fstat(connection.fileno()).st_ino
    end = time.monotonic() + patience
    while not any(row.inode == mine and row.peer for row in _rows()):
        if time.monotonic() > end:
            raise Failure(Exit.UNAVAILABLE, f"{path}: QEMU does not answer")
        time.sleep(PAUSE)
