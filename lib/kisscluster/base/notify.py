"""Word to systemd, without its library (sd_notify(3))."""

import os
import socket
from contextlib import suppress


def notify(message: str) -> None:
    """Tell systemd (sd_notify(3)); without systemd, nobody."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            with suppress(OSError):
                out.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)
