"""QEMU's machine protocol: one command, its answer (QEMU's qmp-spec)."""

import json
import socket
import time
from typing import Any

from kisscluster.act.sockets import connect
from kisscluster.base.exits import Exit, Failure


def request(command: str, arguments: dict[str, object]) -> str:
    """What QEMU is sent, without the end of the line."""
    return json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})


class Qmp:
    """A connection to one VM's QMP socket; raises Failure UNAVAILABLE when QEMU does not answer in time."""

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self.events: list[str] = []
        self.socket = connect(path, timeout)
        try:
            self.lines = self.socket.makefile("rb")
            self._line()
            self.execute("qmp_capabilities")
        except OSError as error:
            self.socket.close()
            raise Failure(Exit.UNAVAILABLE, f"{path}: {error.strerror or error}") from None

    def execute(self, command: str, **arguments: object) -> Any:
        """The command's return value; raises Failure NO with QEMU's words when it refuses."""
        return self.ask(command, arguments)

    def ask(self, command: str, arguments: dict[str, object], fds: tuple[int, ...] = ()) -> Any:
        """The same, with open files for QEMU beside the request."""
        try:
            socket.send_fds(self.socket, [request(command, arguments).encode() + b"\n"], fds)
            while True:
                reply = self._line()
                if "error" in reply:
                    raise Failure(Exit.NO, f"{command}: {reply['error'].get('desc', 'refused')}")
                if "return" in reply:
                    return reply["return"]
                self.events.append(str(reply.get("event", "")))
        except OSError as error:
            raise Failure(Exit.UNAVAILABLE, f"{self.path}: {error.strerror or error}") from None

    def wait(self, event: str, times: int, seconds: float) -> bool:
        """Has this event come so many times, at most so many seconds from now? The connection is of no use after no."""
        end = time.monotonic() + seconds
        while self.events.count(event) < times:
            if (left := end - time.monotonic()) <= 0:
                return False
            self.socket.settimeout(left)
            try:
                self.events.append(str(self._line().get("event", "")))
            except OSError:
                return False
        return True

    def _line(self) -> dict[str, Any]:
        line = self.lines.readline()
        if not line:
            raise ConnectionResetError(0, "QEMU closed the connection")
        reply = json.loads(line)
        return reply if isinstance(reply, dict) else {}

    def __enter__(self) -> "Qmp":
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.socket.close()
