"""A node made of files: configuration, facts, and programs that only write down how they were called."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

BIN = Path(__file__).resolve().parents[2] / "bin"
CONF = """\
cluster = demo
ping = 192.0.2.1
[nodes]
  [[node1]]
    production = 192.0.2.11
    storage = 10.0.0.1
  [[node2]]
    production = 192.0.2.12
    storage = 10.0.0.2
    fence = "{fence}"
"""
HEALTHY = "storage=up production=up ping=up trace=up unbroken=yes steady=yes"
DEAD = "storage=down production=down ping=up trace=down unbroken=yes steady=yes"
ISOLATED = "storage=down production=down ping=down trace=down unbroken=no steady=no"
STUB = """\
#!/bin/sh
printf '%s\\n' "$(basename "$0") $*" >> "{log}"
test -f "{answers}/$(basename "$0").$1" && . "{answers}/$(basename "$0").$1"
exit 0
"""


class FakeNode:
    """node1, healthy, with the VM web1 (home node1) and web2 (home node2), both disks Secondary and even."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.etc, self.run, self.lib = base / "etc", base / "run", base / "lib"
        self.log = base / "log"
        for folder in (self.etc / "vm", self.run, self.lib / "ahead", base / "bin", base / "answers", base / "by-res"):
            folder.mkdir(parents=True)
        self.configure()
        for program in "drbdadm systemctl ip setpriv journalctl logger ping timedatectl".split():
            stub = base / "bin" / program
            stub.write_text(STUB.format(log=self.log, answers=base / "answers"))
            stub.chmod(0o755)
        self.beat()
        self.links(HEALTHY)
        self.facts({"peer/local/fit": "yes", "peer/local/steady": "yes", "peer/boot": "ab" * 16})
        for vm in ("web1", "web2"):
            self.drbd(vm, "Connected Secondary/Secondary UpToDate/UpToDate r")

    def configure(self, fence: str = "") -> None:
        (self.etc / "kisscluster.conf").write_text(CONF.format(fence=fence))
        for vm, home in (("web1", "node1"), ("web2", "node2")):
            (self.etc / f"vm/{vm}.conf").write_text(f"node = {home}\nmemory = 64\ncpus = 1\nbridge = br0\n")

    def beat(self, ago: float = -0.9) -> None:
        """The heartbeat's last sign, so many seconds ago: a busy machine is slow to start a command."""
        fresh = self.base / f"alive.{threading.get_ident()}"
        fresh.write_text(f"{time.clock_gettime(time.CLOCK_BOOTTIME) - ago:.3f}\n")
        fresh.rename(self.run / "alive")  # as the heartbeat does: whoever reads meanwhile finds a whole line

    def links(self, line: str) -> None:
        (self.run / "links").write_text(line + "\n")

    def drbd(self, vm: str, line: str) -> None:
        """What the heartbeat says and what the kernel says."""
        self.facts({f"drbd/{vm}": line})
        minor = {"web1": 10, "web2": 11}[vm]
        connection, roles, disks, flag = line.split()
        (self.base / f"proc.{vm}").write_text(f"{minor}: cs:{connection} ro:{roles} ds:{disks} C {flag}-----\n")
        text = "".join(part.read_text() for part in sorted(self.base.glob("proc.*")))
        (self.base / "proc").write_text("version: 8.4.11 (api:1/proto:86-101)\n" + text)
        (self.base / "by-res" / vm).mkdir(exist_ok=True)
        link = self.base / "by-res" / vm / "0"
        if not link.is_symlink():
            link.symlink_to(f"../../../drbd{minor}")

    def facts(self, facts: dict[str, str | None]) -> None:
        for name, value in facts.items():
            path = self.run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True) if value is None else path.write_text(value + "\n")

    def ahead(self, vm: str) -> Path:
        return self.lib / "ahead" / vm

    def answer(self, program: str, verb: str, script: str) -> None:
        """What a program does when called with this first argument."""
        (self.base / "answers" / f"{program}.{verb}").write_text(script)

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.base / 'bin'}:/usr/bin:/bin", "KC_NODE": "node1", "KC_STATE_DIR": str(self.lib),
                "KC_PROC_DRBD": str(self.base / "proc"), "KC_BY_RES": str(self.base / "by-res"),
                "KC_SYSRQ": str(self.base / "sysrq"), "HOME": "/"}

    def argv(self, command: str, *arguments: str) -> list[str]:
        places = ["--config", str(self.etc / "kisscluster.conf"), "--run-dir", str(self.run)]
        return [str(BIN / command), *places, *arguments]

    def call(self, command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.beat()
        return subprocess.run(self.argv(command, *arguments), env={**self.environment(), **environment}, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=30)

    def called(self) -> list[str]:
        """How other programs were called since the last look."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def snapshot(self) -> dict[str, str]:
        """Every fact and mark, to see that a dry run changes nothing."""
        found = [path for root in (self.run, self.lib, self.etc) for path in root.rglob("*") if path.is_file()]
        return {str(path): path.read_text() for path in found if path.name != "alive"}


def is_root() -> bool:
    return os.geteuid() == 0
