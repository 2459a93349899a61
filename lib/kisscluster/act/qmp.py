"""QEMU's machine protocol: one command, its answer (QEMU's qmp-spec)."""

import json
import socket
from typing import Any

from kisscluster.base.exits import Exit, Failure


class Qmp:
    """A connection to one VM's QMP socket; raises Failure UNAVAILABLE when QEMU does not answer in time."""

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path)
            self.lines = self.socket.makefile("rb")
            self._line()
            self.execute("qmp_capabilities")
        except OSError as error:
            self.socket.close()
            raise Failure(Exit.UNAVAILABLE, f"{path}: {error.strerror or error}") from None

    def execute(self, command: str, **arguments: object) -> Any:
        """The command's return value; raises Failure NO with QEMU's words when it refuses."""
        request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        try:
            self.socket.sendall(json.dumps(request).encode() + b"\n")
            while True:
                reply = self._line()
                if "error" in reply:
                    raise Failure(Exit.NO, f"{command}: {reply['error'].get('desc', 'refused')}")
                if "return" in reply:
                    return reply["return"]
        except OSError as error:
            raise Failure(Exit.UNAVAILABLE, f"{self.path}: {error.strerror or error}") from None

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
