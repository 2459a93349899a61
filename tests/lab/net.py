"""A laboratory's networks: a namespace with a bridge `prod`, which is the switch, and a bridge `stor`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

from tests.lab import isolate
from tests.lab.pair import INTERFACES, NETWORKS, NODES, PRODUCTION, STORAGE, SWITCH, Network

BRIDGE = ("type", "bridge", "mcast_snooping", "0")
Direction = Literal["in", "out", "both"]
WIRE = Path(__file__).with_name("wire.py")
FORWARDING, DISABLED = "3", "0"  # states of a bridge's port

RULES = """
table bridge lab {
  set deaf { type ifname; }
  set dumb { type ifname; }
  set parted { type ifname; }
  set narrow { type ifname; }
  chain from_node { type filter hook prerouting priority -300; iifname @dumb drop; }
  chain between {
    type filter hook forward priority 0;
    iifname @parted oifname @parted drop;
    oifname @narrow tcp dport 16000-31999 limit rate over 64 kbytes/second burst 8 kbytes drop;
  }
  chain to_node { type filter hook postrouting priority 300; oifname @deaf drop; }
}
"""


def ip(*arguments: str, netns: str | None = None, check: bool = True) -> None:
    """Run ip(8), inside a named network namespace or not."""
    where = ["-n", netns] if netns else []
    done = subprocess.run(["ip", *where, *arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join([*where, *arguments])}: {done.stderr.strip()}")


def mac(machine: str, network: Network) -> str:
    """A fixed address: a bridge would else take another one whenever something is plugged in or out."""
    return f"02:00:{machine.encode().ljust(3)[-3:].hex(':')}:{NETWORKS.index(network):02x}"


class Net:
    """The switch, the storage cable, and what is plugged into them.

    isolate.enter() makes the namespaces' names private to this process; several networks in one process differ
    by the prefix of these names.
    """

    def __init__(self, netns: str = "switch", prefix: str = "") -> None:
        isolate.enter()
        self.netns, self.prefix = prefix + netns, prefix
        ip("netns", "add", self.netns)
        isolate.on_exit(self.close)
        self.nodes: set[str] = set()
        self.unplugged: set[str] = set()
        self.wires: dict[str, tuple[str, float]] = {}  # port: what is wrong with its cable
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ip("link", "set", "lo", "up")
        for network in NETWORKS:
            self._ip("link", "add", INTERFACES[network], *BRIDGE)
            self._ip("link", "set", INTERFACES[network], "address", mac("switch", network))
            self._ip("link", "set", INTERFACES[network], "up")
        self._ip("address", "add", f"{SWITCH}/24", "dev", INTERFACES["production"])
        self.run("nft", "-f", "-", stdin=RULES)

    def _ip(self, *arguments: str) -> None:
        ip(*arguments, netns=self.netns)

    def enter(self, *command: str) -> list[str]:
        """The command line that runs a command in the switch's namespace (QEMU with taps, tcpdump)."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", "--", *command]

    def run(self, *command: str, stdin: str = "") -> None:
        """Run a command in the switch's namespace."""
        subprocess.run(self.enter(*command), input=stdin, text=True, check=True)

    @staticmethod
    def port(node: str, network: Network) -> str:
        """The name of the switch's port that a node is plugged into."""
        return f"{node}-{INTERFACES[network]}"

    def plug_veth(self, node: str) -> str:
        """Make a network namespace for a node, its two interfaces plugged in and configured; its path."""
        netns = self.prefix + node
        ip("netns", "add", netns)
        self.nodes.add(node)
        ip("link", "set", "lo", "up", netns=netns)
        for network in NETWORKS:
            inner, port = INTERFACES[network], self.port(node, network)
            self._ip("link", "add", port, "type", "veth", "peer", "name", inner, "netns", netns)
            self._plug(port, network)
            ip("link", "set", inner, "up", netns=netns)
        ip("link", "add", "br0", *BRIDGE, netns=netns)
        ip("link", "set", "br0", "address", mac(node, "production"), netns=netns)
        ip("link", "set", "prod", "master", "br0", netns=netns)
        ip("link", "set", "br0", "up", netns=netns)
        ip("address", "add", f"{PRODUCTION[node]}/24", "dev", "br0", netns=netns)
        ip("address", "add", f"{STORAGE[node]}/24", "dev", "stor", netns=netns)
        return f"/run/netns/{netns}"

    def unplug_veth(self, node: str) -> None:
        """Take a node's namespace away, with whatever its kernel still wanted to send."""
        for network in NETWORKS:
            self._end_wire(self.port(node, network))
            ip("link", "delete", self.port(node, network), netns=self.netns, check=False)
        ip("netns", "delete", self.prefix + node, check=False)
        self.nodes.discard(node)

    def plug_tap(self, node: str, network: Network) -> str:
        """Make a tap device in the switch's namespace, plugged in; its name."""
        port = self.port(node, network)
        self._ip("tuntap", "add", port, "mode", "tap")
        self._plug(port, network)
        return port

    def _plug(self, port: str, network: Network) -> None:
        self._ip("link", "set", port, "master", INTERFACES[network])
        self._ip("link", "set", port, "down" if port in self.unplugged else "up")
        if port in self.wires:
            self._start_wire(port, network)

    def cable(self, node: str, network: Network, up: bool) -> None:
        """Pull a cable or put it back: the node sees its carrier go behind a veth, but not behind a tap.

        A node that is off finds its cables as they were left.
        """
        (self.unplugged.discard if up else self.unplugged.add)(self.port(node, network))
        if node in self.nodes:
            self._ip("link", "set", self.port(node, network), "up" if up else "down")

    def silence(self, node: str, network: Network, on: bool, direction: Direction = "both") -> None:
        """Drop what a node sends (out), what is sent to it (in), or both; or stop doing so."""
        for name, wanted in (("deaf", "in"), ("dumb", "out")):
            if direction in ("both", wanted):
                self._member(name, on, self.port(node, network))

    def narrow(self, node: str, network: Network, on: bool) -> None:
        """Let a moving guest's memory through to a node so slowly that a move lasts; nothing else is slower."""
        self._member("narrow", on, self.port(node, network))

    def numb(self, node: str, on: bool) -> None:
        """All ports of a node neither take nor give anything, and keep their carrier: it stands still."""
        for network in NETWORKS:
            port = self.port(node, network)
            self._state(self._tap(port) if port in self.wires else port, DISABLED if on else FORWARDING)

    def _state(self, port: str, state: str) -> None:
        # refused while the cable is out, when it does not matter
        command = ["bridge", "link", "set", "dev", port, "state", state]
        subprocess.run(self.enter(*command), check=False, capture_output=True)

    # Bad cables

    @staticmethod
    def _tap(port: str) -> str:
        return port.replace("node", "wire")

    def spoil(self, node: str, network: Network, kind: str, seconds: float = 0.0) -> None:
        """What passes a node's cable arrives later (delay), twice (duplicate) or out of order (reorder)."""
        self.mend(node, network)
        self.wires[self.port(node, network)] = kind, seconds
        self._start_wire(self.port(node, network), network)

    def mend(self, node: str, network: Network) -> None:
        """A good cable again; what is still on its way is lost."""
        port = self.port(node, network)
        if self.wires.pop(port, None):
            self._end_wire(port)
            self._state(port, FORWARDING)

    def _start_wire(self, port: str, network: Network) -> None:
        tap, (kind, seconds) = self._tap(port), self.wires[port]
        self._ip("tuntap", "add", tap, "mode", "tap", "vnet_hdr")
        self._ip("link", "set", tap, "master", INTERFACES[network])
        self._ip("link", "set", tap, "up")
        self._state(port, DISABLED)
        command = self.enter(sys.executable, "-I", str(WIRE), port, tap, kind, str(seconds))
        said, says = os.pipe()
        with os.fdopen(says, "wb") as out:
            self._running[port] = isolate.spawn(command, out)
        with os.fdopen(said, "rb") as lines:
            if lines.readline() != b"ready\n":
                raise RuntimeError(f"{port}: its bad cable does not work")

    def _end_wire(self, port: str) -> None:
        wire = self._running.pop(port, None)
        if wire:
            wire.kill()
            wire.wait()
            self._ip("link", "delete", self._tap(port))

    def part(self, network: Network, on: bool) -> None:
        """The nodes do not reach each other there, but both still reach the switch; or they do again."""
        self._member("parted", on, *(self.port(node, network) for node in NODES))

    def _member(self, name: str, on: bool, *ports: str) -> None:
        """Put ports, with what stands for them while their cable is bad, into a set of RULES, or take them out."""
        names = ", ".join(f'"{each}"' for port in ports for each in (port, self._tap(port)))
        element = f"{'add' if on else 'delete'} element bridge lab {name} {{ {names} }}"
        subprocess.run(self.enter("nft", element), check=on, capture_output=True)

    def switch(self, up: bool) -> None:
        """The production switch loses or gets back its power."""
        self._ip("link", "set", INTERFACES["production"], "up" if up else "down")

    def ping_address(self, up: bool) -> None:
        """The switch forwards as ever, but does (or does not any more) answer pings."""
        self._ip("address", "replace" if up else "delete", f"{SWITCH}/24", "dev", INTERFACES["production"])

    def heal(self) -> None:
        """Every cable in and good, every silence off, the switch on."""
        self.run("nft", "; ".join(f"flush set bridge lab {name}" for name in ("deaf", "dumb", "parted", "narrow")))
        self.switch(True)
        self.ping_address(True)
        self.unplugged.clear()
        for node in NODES:
            for network in NETWORKS:
                self.mend(node, network)
                self.cable(node, network, True)

    def close(self) -> None:
        """Take everything away; twice is once."""
        isolate.forget(self.close)
        for node in list(self.nodes):
            self.unplug_veth(node)
        for port in list(self._running):
            self._end_wire(port)
        ip("netns", "delete", self.netns, check=False)
