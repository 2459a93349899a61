"""Two real kc-heartbeats in two network namespaces, with files in place of DRBD."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from pathlib import Path

from tests.lab.net import Net
from tests.lab.pair import NODES, PRODUCTION, STORAGE, wait
from tests.lab.setup import kisscluster_conf

BIN = Path(__file__).resolve().parents[2] / "bin"
EVEN = " 10: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----\n"


class Hearts:
    """Both nodes' daemons; an interval of 0.1 s and a deadtime of 1.2 s, so that a test takes seconds."""

    def __init__(self, base: Path, net: Net) -> None:
        self.net = net
        self.base = base
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.secret = secrets.token_hex(32)
        for node in NODES:
            self._prepare(node)

    def _prepare(self, node: str) -> None:
        home = self.base / node
        (home / "etc/vm").mkdir(parents=True)
        (home / "etc/kisscluster.conf").write_text(kisscluster_conf(interval=0.1, deadtime=1.2, settle=0.5))
        (home / "etc/vm/web1.conf").write_text("node=node1\nmemory=32\ncpus=1\nbridge=br0\n")
        (home / "etc/secret").write_text(self.secret)
        (home / "etc/secret").chmod(0o600)
        (home / "by-res/web1").mkdir(parents=True)
        (home / "by-res/web1/0").symlink_to("../../../drbd10")
        (home / "run").mkdir()
        (home / "lib").mkdir()
        self.drbd(node, EVEN)

    def drbd(self, node: str, text: str) -> None:
        """What the kernel says on that node."""
        (self.base / node / "proc.new").write_text("version: 8.4.11 (api:1/proto:86-101)\n" + text)
        (self.base / node / "proc.new").rename(self.base / node / "proc")

    def command(self, node: str, name: str, *arguments: str) -> list[str]:
        home = self.base / node
        return ["nsenter", f"--net=/run/netns/{node}", "--", "chrt", "--rr", "1", str(BIN / name), "--config",
                str(home / "etc/kisscluster.conf"), "--run-dir", str(home / "run"), *arguments]

    def environment(self, node: str) -> dict[str, str]:
        home = self.base / node
        return {**os.environ, "KC_NODE": node, "KC_PROC_DRBD": str(home / "proc"),
                "KC_BY_RES": str(home / "by-res"), "KC_STATE_DIR": str(home / "lib")}

    def start(self, *nodes: str) -> None:
        for node in nodes or NODES:
            self.daemons[node] = subprocess.Popen(self.command(node, "kc-heartbeat"), stdin=subprocess.DEVNULL,
                                                  stderr=subprocess.PIPE, env=self.environment(node))

    def kill(self, node: str) -> bytes:
        """SIGKILL; what the daemon had said on stderr."""
        daemon = self.daemons.pop(node)
        daemon.send_signal(signal.SIGCONT)
        daemon.kill()
        return daemon.communicate()[1]

    def run(self, node: str, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(node, name, *arguments), stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, env=self.environment(node), timeout=60)

    def path(self, node: str, name: str) -> Path:
        return self.base / node / "run" / name

    def read(self, node: str, name: str) -> str | None:
        try:
            return self.path(node, name).read_text().rstrip("\n")
        except FileNotFoundError:
            return None

    def fact(self, node: str, name: str) -> str | None:
        """One word of the file `links`."""
        words = dict(word.split("=") for word in (self.read(node, "links") or "").split())
        return words.get(name)

    def settled(self) -> None:
        """Wait until both see everything up, both copies even, and no daemon is starting."""
        healthy = "storage=up production=up ping=up trace=up unbroken=yes steady=yes starting=no"
        for node in NODES:
            wait(lambda node=node: self.read(node, "links") == healthy, 10, f"healthy links on {node}")  # type: ignore[misc]

    def close(self) -> None:
        for node in list(self.daemons):
            self.kill(node)


__all__ = ["EVEN", "NODES", "PRODUCTION", "STORAGE", "Hearts", "wait"]
