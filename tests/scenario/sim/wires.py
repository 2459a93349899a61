"""The two networks: who reaches whom, and how late."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.scenario.language import NETWORKS, NODES
from tests.scenario.sim.clock import Clock

LATENCY = 0.0003  # seconds
DRBD_PATIENCE = 0.5  # seconds that DRBD waits for the answer to its ping (ping-timeout, FACTS 1.5)


@dataclass
class Port:
    """One interface of a node, and what its cable does to packets."""

    carrier: bool = True
    lost_in: bool = False
    lost_out: bool = False
    delay: float = 0.0
    twice: bool = False
    shuffled: bool = False
    narrow: bool = False  # for the memory of a guest that moves


@dataclass
class Wires:
    """What lies between the machines."""

    clock: Clock
    rng: random.Random
    answers: Callable[[str], bool]  # is that node's kernel running?
    ports: dict[tuple[str, str], Port] = field(
        default_factory=lambda: {(node, network): Port() for node in NODES for network in NETWORKS})
    switch: bool = True
    ping_address: bool = True
    parted: bool = False  # do the switch's two ports not hear each other?
    lag: float = 0.0  # a random share of it is added to every packet

    def path(self, source: str, target: str, network: str) -> bool:
        """Does a packet get from one node to the other now, if both run?"""
        out, into = self.ports[source, network], self.ports[target, network]
        good = out.carrier and into.carrier and not out.lost_out and not into.lost_in
        return good and (network == "storage" or self.switch and not self.parted)

    def drbd_lives(self) -> bool:
        """Could DRBD's connection live?"""
        there_and_back = 2 * sum(self.ports[node, "storage"].delay for node in NODES)
        return there_and_back < DRBD_PATIENCE and all(self.path(NODES[i], NODES[1 - i], "storage") for i in (0, 1))

    def delayed(self, network: str) -> float:
        """What both nodes' ports add to every packet's way."""
        return sum(self.ports[node, network].delay for node in NODES)

    def both_ways(self, network: str) -> bool:
        """Could the nodes talk there?"""
        return all(self.path(NODES[i], NODES[1 - i], network) for i in (0, 1))

    def hear_each_other(self, network: str) -> bool:
        """Could they, while it counts?"""
        return self.both_ways(network) and self.delayed(network) < 1

    def reaches_switch(self, node: str) -> bool:
        """Would a ping be answered?"""
        port = self.ports[node, "production"]
        return self.switch and self.ping_address and port.carrier and not port.lost_in and not port.lost_out

    def answered_in_time(self, node: str) -> bool:
        """Does that node know of the answer while it counts?"""
        return self.reaches_switch(node) and self.ports[node, "production"].delay < 1

    def lateness(self, *ports: Port) -> float:
        late = LATENCY + sum(port.delay for port in ports)
        late += sum(self.rng.uniform(0, 0.4) for port in ports if port.shuffled)
        return late + (self.rng.random() * self.lag if self.lag else 0.0)

    def send(self, source: str, target: str, network: str, deliver: Callable[[], object]) -> None:
        """A datagram; it may be lost, late, doubled, or overtake another."""
        if not self.path(source, target, network):
            return
        ports = self.ports[source, network], self.ports[target, network]
        for _ in range(2 if any(port.twice for port in ports) else 1):
            self.clock.after(self.lateness(*ports), None, deliver)

    def ask(self, source: str, target: str, network: str, answer: Callable[[], object]) -> None:
        """A ping of the switch ("switch") or of the peer's address, and its way back."""
        if target == "switch":
            if self.reaches_switch(source):
                self.clock.after(2 * self.lateness(self.ports[source, network]), None, answer)
        elif self.path(source, target, network):
            late = self.lateness(self.ports[source, network], self.ports[target, network])
            self.clock.after(late, None, self._reply, source, target, network, answer)

    def _reply(self, source: str, target: str, network: str, answer: Callable[[], object]) -> None:
        if self.answers(target):
            self.send(target, source, network, answer)
