"""A guest that could move is never booted anew: who ends one that runs, and what was amiss with a move meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kisscluster.decide.order import OVERHEAD
from tests.scenario.language import NODES

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine
    from tests.scenario.sim.world import World

KNOWN = 6.0  # seconds after which both nodes know that a move is possible, a node that has just booted included
BEGUN = 1.0  # seconds after which its node knows that a guest runs
GIVEN_UP = 45.0  # seconds from what broke a move until the guest is shut down instead


class Calm:
    """Since when each node could give each guest to its peer; any fault or repair begins a new count."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.strict = True  # at the nominal pace only
        self.nothing_failed = True
        self.since: dict[tuple[str, str], float] = {}
        self.due: dict[tuple[str, str], float] = {}  # (node, VM): when it was last to be moved away from there
        self.ended: set[str] = set()  # VMs that a person ended, or a node that could not move them

    def begin(self) -> None:
        """The pair is healthy, and has been for long enough."""
        self.since = {(node, vm): self.world.now - KNOWN for node in NODES for vm in self.world.mirrors}
        self.due.clear()
        self.ended.clear()
        self.nothing_failed = True

    def disturbed(self) -> None:
        """Something fails, or is repaired."""
        self.nothing_failed = False
        self.since = dict.fromkeys(self.since, self.world.now)

    def look(self) -> None:
        """Often."""
        for node, vm in self.since:
            if not self._could_move(self.world.machines[node], vm):
                self.since[node, vm] = self.world.now

    def asked(self, machine: Machine, vm: str) -> None:
        """From now on it is to be moved to the peer."""
        self.due[machine.name, vm] = self.world.now

    def stops(self, machine: Machine, vm: str, due: float | None = None) -> None:
        """A guest that runs is ended by one of our commands, or with its node; since when it was to be moved."""
        by_restart = machine.config.failback == "restart" and self.world.home(vm) == machine.peer
        if vm not in self.ended and self._calm(machine.name, vm, due) and not by_restart:
            self.world.violated(f"{vm} is shut down on {machine.name}, though it could have moved")
        self.ended.add(vm)

    def lost(self, machine: Machine, vm: str) -> None:
        """A guest ends that has got its memory from the peer and has not gone on with it."""
        if self._calm(machine.peer, vm):
            self.world.violated(f"{vm} has arrived on {machine.name} and is ended there, though nothing was amiss")

    def booted(self, machine: Machine, vm: str) -> None:
        """A guest begins from nothing: who leaves in the same moment may not know of it."""
        since = self.since.get((machine.name, vm), 0.0)
        self.since[machine.name, vm] = max(since, self.world.now + BEGUN - KNOWN)
        if self.nothing_failed and vm in self.world.judge.last and vm not in self.ended:
            self.world.violated(f"{vm} is booted anew on {machine.name}, and nothing has failed, and nobody stopped it")
        self.ended.discard(vm)

    def _calm(self, node: str, vm: str, due: float | None = None) -> bool:
        """Could it have moved all the time since it was to, or for so long that nothing earlier counts?"""
        now = self.world.now
        begun, since = self.due.get((node, vm), now) if due is None else due, self.since.get((node, vm), now)
        return self.strict and not self.world.judge.excused and (since <= begun - KNOWN or since <= now - GIVEN_UP)

    def _could_move(self, machine: Machine, vm: str) -> bool:
        """Both nodes work, the copies are the same, and the other node takes it."""
        world, peer = self.world, self.world.machines[machine.peer]
        if world.now < world.held or not world.wires.hear_each_other("storage"):
            return False
        if not (_works(machine) and _works(peer)) or peer.units.target_stopping:
            return False
        words = [side.word() for side in world.mirrors[vm].sides.values()]
        guest = machine.guests.get(vm)
        return all(word and word.even for word in words) and not (guest and guest.stopped) and self._takes(peer)

    def _takes(self, peer: Machine) -> bool:
        """Does nobody and nothing keep that node from running what the other one runs?"""
        world = self.world
        lan = world.wires.reaches_switch(peer.name) or world.wires.both_ways("production")
        said = [(peer, "standby"), *((machine, "maintenance") for machine in world.machines.values())]
        refuses = any((machine.var.peek(f"words/{word}") or "").startswith("yes") for machine, word in said)
        room = peer.memory - peer.config.reserve >= sum(vm.memory + OVERHEAD for vm in peer.vms.values())
        return lan and room and not refuses and world.wires.delayed("production") < 1


def _works(machine: Machine) -> bool:
    heart = machine.units.heartbeat if machine.on else None
    return heart is not None and not (heart.paused or machine.life.hung or machine.run.full)
