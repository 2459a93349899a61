"""The container pair: two systemd nodes in their own namespaces, with a stand-in for DRBD, up in a second."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.lab import build, container_root, isolate, pair, setup
from tests.lab.container_node import BOOT_SECONDS, Node
from tests.lab.net import Net
from tests.lab.pair import NODES, VMS, Dots, Network
from tests.lab.serial import Collector

DISK_MEBIBYTES = 2
# What the chain says every few seconds
NOISE = re.compile(r"systemd\[1\]: (Starting |Finished )?kc-(quorum|failover)\.service( - |: Deactivated)")
_numbers = itertools.count()
META = {"current": 0, "bitmap": 0, "history": [0, 0], "consistent": True, "up_to_date": True, "peer_outdated": False,
        "primary": False, "dirty": []}
DISKS = {vm: f"{container_root.DISKS}/{vm}" for vm in VMS}


class ContainerPair:
    """A Pair whose nodes are containers. Without a deb the nodes have no KISScluster: the laboratory alone.

    more: further Debian packages in both nodes; suites: a node's Debian, if it is not the newest.
    """

    def __init__(self, deb: Path | None, more: Sequence[str] = (), suites: Mapping[str, str] | None = None) -> None:
        isolate.enter()
        container_root.check_host()
        container_root.sweep()
        debians = {**dict.fromkeys(NODES, container_root.SUITE), **(suites or {})}
        lowers = {node: container_root.layers(deb, more, suite) for node, suite in debians.items()}
        number = next(_numbers)
        self.base = build.lab_dir() / f"run-{os.getpid()}-{number}"
        self.base.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "lab", str(self.base)], check=True)
        self.net = Net(prefix=f"container{number}-")
        isolate.on_exit(self.close)
        self.nodes = {name: Node(name, self.base / name, lowers[name], self.net) for name in NODES}
        self._make_disks()
        self._closing = threading.Event()
        self.collector = Collector(lambda node, vm: self.nodes[node].inside(f"/run/kisscluster/vm/{vm}/serial"))
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._together(Node.boot)

    def renew(self) -> None:
        """Both nodes as new, every fault healed, both booted."""
        self._together(Node.renew)
        self.net.heal()
        self.collector.forget()
        self._make_disks()
        self._together(Node.boot)

    def _make_disks(self) -> None:
        for vm in VMS:
            meta = {**META, "current": 0x1000 + VMS[vm].minor * 2}
            for node in self.nodes.values():
                disk = node.root / DISKS[vm].lstrip("/")
                disk.parent.mkdir(parents=True, exist_ok=True)
                disk.write_bytes(setup.guest_disk(DISK_MEBIBYTES))
                disk.with_name(disk.name + ".meta").write_text(json.dumps(meta))

    def _together(self, action: Callable[[Node], None]) -> None:
        errors: list[BaseException] = []

        def guarded(node: Node) -> None:
            try:
                action(node)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=[node]) for node in self.nodes.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _watch(self) -> None:
        """A node that wrote to its sysrq-trigger, or called reboot(2), is power-cycled."""
        while not self._closing.wait(0.02):
            for node in self.nodes.values():
                node.obey_sysrq()

    # The Pair

    def run(self, node: str, command: str, timeout: float = 30, check: bool = True
            ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root inside a node."""
        return self.nodes[node].run(command, timeout, check)

    def write(self, node: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside a node."""
        self.nodes[node].run(f"install -D -m {mode:o} /dev/stdin '{path}'", stdin=text)

    def read(self, node: str, path: str) -> str:
        """Read a file inside a node."""
        return self.nodes[node].run(f"cat '{path}'").stdout

    def power_off(self, node: str) -> None:
        """Pull the plug."""
        self.nodes[node].kill()

    def power_on(self, node: str) -> None:
        """Boot again; returns when commands can be run."""
        self.nodes[node].boot()

    def is_on(self, node: str) -> bool:
        """Has it power?"""
        return self.nodes[node].process is not None

    def boots(self, node: str) -> int:
        """How often it has booted since this pair is here."""
        return self.nodes[node].boots

    def pause(self, node: str) -> None:
        """The whole node stands still and answers nothing."""
        self.nodes[node].freeze(True)

    def resume(self, node: str) -> None:
        """It goes on as if nothing had been."""
        self.nodes[node].freeze(False)

    def cable(self, node: str, network: Network, up: bool) -> None:
        """Pull a cable out (the node sees its carrier go) or put it back."""
        self.net.cable(node, network, up)

    def silence(self, node: str, network: Network, on: bool) -> None:
        """Packets of that link vanish without a trace, or do not any more."""
        self.net.silence(node, network, on)

    def switch(self, up: bool) -> None:
        """The production switch dies or comes back."""
        self.net.switch(up)

    def fail_disk(self, node: str, vm: str, failed: bool, empty: bool = False) -> None:
        """The stand-in takes `detach` for an error of the disk."""
        if empty:
            self._empty_disk(node, vm)
        self.run(node, f"drbdadm {'detach' if failed else 'attach'} {vm}")

    def _empty_disk(self, node: str, vm: str) -> None:
        disk = self.nodes[node].root / DISKS[vm].lstrip("/")
        with disk.open("r+b") as file:
            file.write(bytes(DISK_MEBIBYTES << 20))
        meta = {**META, "consistent": False, "up_to_date": False}
        disk.with_name(disk.name + ".meta").write_text(json.dumps(meta))

    def dots(self, vm: str) -> Dots:
        """What a guest printed so far."""
        return self.collector.dots[vm]

    def acknowledged(self, vm: str) -> int:
        """How many writes a guest was told are on disk."""
        return len(self.dots(vm))

    def counter(self, node: str, vm: str) -> int:
        """The counter on that node's copy of the guest's disk."""
        with (self.nodes[node].root / DISKS[vm].lstrip("/")).open("rb") as disk:
            return setup.count_on(disk.read(1024))

    def wait(self, predicate: Callable[[], object], timeout: float, what: str) -> float:
        """Wait until a predicate holds."""
        return pair.wait(predicate, timeout, what)

    def journal(self, node: str, lines: int = 200) -> str:
        """The end of a node's journal, also of a dead one."""
        directory = self.nodes[node].root / "var/log/journal"
        command = ["journalctl", "-D", str(directory), "--no-pager", "-o", "short-precise"]
        text = subprocess.run(command, capture_output=True, text=True).stdout
        return "\n".join([line for line in text.splitlines() if not NOISE.search(line)][-lines:])

    def story(self, node: str) -> str:
        """What somebody who looks for a fault wants to see."""
        if not self.nodes[node].process:
            return f"{node} is off\n{self.journal(node)}"
        command = "kc-status; cat $KC_PROC_DRBD; cd /run/kisscluster && grep -rs . --exclude-dir=vm ."
        try:
            now = self.run(node, command, timeout=10, check=False).stdout
        except subprocess.TimeoutExpired:
            now = f"{node} answers nothing\n"
        return now + self.journal(node)

    def close(self) -> None:
        """Leave nothing behind."""
        isolate.forget(self.close)
        if hasattr(self, "collector"):
            self._closing.set()
            self._watcher.join(BOOT_SECONDS)
            self.collector.close()
        for node in getattr(self, "nodes", {}).values():
            node.close()
        if hasattr(self, "net"):
            self.net.close()
        subprocess.run(["umount", "-l", str(self.base)], check=False, capture_output=True)
        shutil.rmtree(self.base, ignore_errors=True)
