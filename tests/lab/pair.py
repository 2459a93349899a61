"""What every laboratory offers: two nodes, their faults, and what their guests say."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from tests.lab.net import Net

Network = Literal["production", "storage"]
NODES = ("node1", "node2")
NETWORKS: tuple[Network, ...] = ("production", "storage")
PRODUCTION = {"node1": "192.0.2.11", "node2": "192.0.2.12"}
STORAGE = {"node1": "10.0.0.1", "node2": "10.0.0.2"}
SWITCH = "192.0.2.1"
INTERFACES: dict[Network, str] = {"production": "prod", "storage": "stor"}


class Vm(NamedTuple):
    """One guest of the laboratory."""

    home: str
    minor: int
    port: int


VMS = {"web1": Vm("node1", 10, 7790), "web2": Vm("node2", 11, 7791)}


def other(node: str) -> str:
    """The peer of a node."""
    return NODES[1 - NODES.index(node)]


class Dot(NamedTuple):
    """One dot of a guest: when it arrived (monotonic seconds of the host), from which node, its number."""

    time: float
    node: str
    number: int


class Dots:
    """What one guest printed, over all nodes and starts; a collector of the laboratory adds to it."""

    def __init__(self) -> None:
        self._dots: list[Dot] = []
        self._lock = threading.Lock()

    def add(self, node: str, number: int = 1) -> None:
        """Note that dots have just arrived from a node."""
        now = time.monotonic()
        with self._lock:
            self._dots += [Dot(now, node, len(self._dots) + 1 + i) for i in range(number)]

    def all(self) -> list[Dot]:
        """Every dot so far, oldest first."""
        with self._lock:
            return list(self._dots)

    def __len__(self) -> int:
        return len(self._dots)

    def after(self, moment: float, node: str | None = None) -> list[Dot]:
        """The dots since a moment, of one node or of any."""
        return [dot for dot in self.all() if dot.time > moment and node in (None, dot.node)]

    def longest_pause(self, since: float) -> float:
        """The longest time without a dot, from a moment until now."""
        return longest_pause(self.after(since), since)

    def last(self) -> Dot | None:
        """The newest dot."""
        with self._lock:
            return self._dots[-1] if self._dots else None


class Pair(Protocol):
    """Two nodes; each world (containers, virtual machines) implements it."""

    @property
    def net(self) -> Net:
        """What they are plugged into."""

    def run(self, node: str, command: str, timeout: float = 30, check: bool = True
            ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root inside a node."""

    def write(self, node: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside a node."""

    def read(self, node: str, path: str) -> str:
        """Read a file inside a node."""

    def power_off(self, node: str) -> None:
        """Pull the plug."""

    def power_on(self, node: str) -> None:
        """Boot again; returns when commands can be run."""

    def is_on(self, node: str) -> bool:
        """Has it power, as far as one can see from outside?"""

    def boots(self, node: str) -> int:
        """How often it has booted since this pair is here."""

    def pause(self, node: str) -> None:
        """The whole node stands still and answers nothing."""

    def resume(self, node: str) -> None:
        """It goes on as if nothing had been."""

    def cable(self, node: str, network: Network, up: bool) -> None:
        """Pull a cable out (the node sees its carrier go) or put it back."""

    def silence(self, node: str, network: Network, on: bool) -> None:
        """Packets of that link vanish without a trace, or do not any more."""

    def switch(self, up: bool) -> None:
        """The production switch dies or comes back: neither forwarding nor its own address."""

    def fail_disk(self, node: str, vm: str, failed: bool, empty: bool = False) -> None:
        """The disk below a guest's DRBD has errors; or the same one, or an empty one, is attached in order."""

    def dots(self, vm: str) -> Dots:
        """What a guest printed so far."""

    def acknowledged(self, vm: str) -> int:
        """How many writes a guest was told are on disk; no copy that anybody uses may know of fewer."""

    def counter(self, node: str, vm: str) -> int:
        """The counter on that node's copy of the guest's disk."""

    def wait(self, predicate: Callable[[], object], timeout: float, what: str) -> float:
        """Wait until a predicate holds; the seconds it took, or an AssertionError that names it."""

    def close(self) -> None:
        """Leave nothing behind."""


def longest_pause(dots: list[Dot], since: float) -> float:
    """The longest time without one of these dots, from a moment until now."""
    times = [since, *(dot.time for dot in dots), time.monotonic()]
    return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))


def command_seconds(pair: Pair, node: str) -> float:
    """How long one command takes on that node, as busy and as slow as it is: a twentieth of a second, or some."""
    started = time.monotonic()
    for _ in range(3):
        pair.run(node, "kc-status", check=False)
    return (time.monotonic() - started) / 3


def wait(predicate: Callable[[], object], timeout: float, what: str, every: float = 0.05) -> float:
    """Wait until a predicate holds; the seconds it took, or an AssertionError that says what was awaited."""
    started = time.monotonic()
    while not predicate():
        if time.monotonic() - started > timeout:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(every)
    return time.monotonic() - started
