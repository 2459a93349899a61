"""A power strip in the production network: what a fence command talks to."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.lab import build, isolate
from tests.lab.net import Net
from tests.lab.pair import NODES, SWITCH, wait

PORT = 2323
COMMAND = f"echo {{node}} | socat -t 10 - TCP:{SWITCH}:{PORT},connect-timeout=3 | grep -qx off"

BROKEN = "echo no answer from the power strip >&2; exit 1"


class PowerStrip:
    """Answers `off` on its address in the switch's namespace once the node that was named has no power any more."""

    def __init__(self, net: Net, cut: Callable[[str], None]) -> None:
        self.cut = cut
        self.path = build.lab_dir() / f"strip-{os.getpid()}-{net.netns}"
        self.path.unlink(missing_ok=True)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()
        listen = f"TCP-LISTEN:{PORT},fork,reuseaddr"
        self.relay = subprocess.Popen(net.enter("socat", listen, f"UNIX-CONNECT:{self.path}"),
                                      stdin=subprocess.DEVNULL, preexec_fn=isolate.die_with_parent)
        wait(lambda: _listens(net), 5, "the power strip listens")

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                with client, client.makefile("rw") as stream:
                    self._answer(stream.readline().strip(), stream.write)

    def _answer(self, node: str, write: Callable[[str], object]) -> None:
        if node in NODES:
            self.cut(node)
            write("off\n")

    def close(self) -> None:
        """Unplug it."""
        self.relay.kill()
        self.relay.wait()
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        Path(self.path).unlink(missing_ok=True)


def _listens(net: Net) -> bool:
    done = subprocess.run(net.enter("ss", "-Hltn", f"sport = :{PORT}"), capture_output=True, text=True)
    return bool(done.stdout.strip())
