"""Who may go on without the other, by the commands' own code: what would break a promise if it were used now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kisscluster.commands.common import place_of
from kisscluster.decide.facts import Links, NodeFacts, VmFacts
from kisscluster.decide.rules import may_go_alone
from kisscluster.see.files import node_facts, vm_facts
from tests.scenario.language import NETWORKS, NODES

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine
    from tests.scenario.sim.stage import SimCall
    from tests.scenario.sim.world import World

AWAKE = 1.1  # seconds, two intervals: a kc-heartbeat that has stood still for longer will look before anything else
GOOD = ("UpToDate", "Consistent")


def _fresh(machine: Machine, vm: str) -> bool:
    """Was the mark written just now? Whoever writes it looks again, and takes it back where that says no (*13)."""
    return (machine.var.age(f"ahead/{vm}") or 0.0) <= machine.var.sync_seconds + 0.001


def _looks_again(machine: Machine, vm: str) -> bool:
    """Is a command at work that does so?"""
    return _fresh(machine, vm) or any(machine.run.locked(f"lock/{name}") for name in (vm, f"fence-{vm}"))


def _unbroken(machine: Machine) -> bool:
    """Without that nobody's death permits it anything; when it is so again it has heard the peer's newest words."""
    links = Links.parse(machine.run.peek("links") or "")
    return links is not None and links.unbroken


def _talks(machine: Machine) -> bool:
    heart = machine.units.heartbeat if machine.on else None
    return heart is not None and not (heart.paused or machine.life.hung)


class Tickets:
    """Never two for one guest, none for a stale copy; nobody takes its peer for dead because it is cut off itself."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.apart = 0.0  # when the nodes last could talk, and had had the time for it
        self.switch = dict.fromkeys(NODES, 0.0)  # node: when it last reached the switch
        self.talk: dict[str, float] = {}  # network: since when both could talk there

    def look(self) -> None:
        world = self.world
        awake = all(map(_talks, world.machines.values()))
        for network in NETWORKS:
            if not (awake and world.wires.hear_each_other(network)):
                self.talk.pop(network, None)
            elif world.now - self.talk.setdefault(network, world.now) > AWAKE:
                self.apart = world.now
        for node in NODES:
            if world.wires.reaches_switch(node):
                self.switch[node] = world.now
        if world.mirrored():
            self.marks()
            return
        held = {node: self._held(node) for node in NODES}
        for vm, mirror in world.mirrors.items():
            holders = [node for node in NODES if vm in held[node]]
            marks = [machine.var.peek(f"ahead/{vm}") is not None for machine in world.machines.values()]
            if len(holders) == 2 and not all(marks):
                world.violated(f"both nodes may go on with {vm} alone")
            for node in holders:
                if not mirror.history.contains(mirror.sides[node].content, mirror.history.acknowledged):
                    world.violated(f"{node} may go on with a copy of {vm} that is not the newest")

    def marks(self) -> None:
        """Also when a command has ended: it looks again no more."""
        for vm in filter(self._both, self.world.mirrors) if self.world.mirrored() else ():
            self.world.violated(f"both nodes could go on with {vm} alone: one is ahead, the other even")

    def believed(self, machine: Machine, facts: NodeFacts, began: float) -> None:
        """Who takes its peer for dead must have seen it so: at one moment, not with one eye now and one later (*1)."""
        if facts.stale or not facts.dead:
            return
        ends = [*[since for since, _ in machine.links][1:], self.world.clock.now]
        stood = [Links.parse(line) for (_, line), end in zip(machine.links, ends, strict=True) if end >= began]
        if not any(links and facts._replace(links=links).dead for links in stood):
            self.world.violated(f"{machine.name} takes its peer for dead, and at no time has seen it so")

    def _both(self, vm: str) -> bool:
        """Connected and the same, one is ahead and the other even: were they cut now, both might go on (*8)."""
        one, two = self.world.machines.values()
        return any(here.on and there.on and here.var.peek(f"ahead/{vm}") is not None and not _looks_again(here, vm)
                   and there.run.peek(f"even/{vm}") is not None and (there.run.age("alive") or 0.0) < AWAKE
                   and _unbroken(there)
                   for here, there in ((one, two), (two, one)))

    def _held(self, node: str) -> list[str]:
        """The guests with which this node may go on alone now, if it is not off or standing still."""
        machine = self.world.machines[node]
        if not machine.on or machine.life.hung:
            return []
        found: list[str] = self.world.inside(node, lambda call: self._asked(node, call))
        return found

    def _asked(self, node: str, call: SimCall) -> list[str]:
        place = place_of(call)
        facts = node_facts(place)
        if facts.dead and self._cut_off(node):
            self.world.violated(f"{node} takes its peer for dead, and is cut off itself")
        words = {vm: mirror.sides[node].word() for vm, mirror in self.world.mirrors.items()}
        return [vm for vm, word in words.items() if word and not word.connected and word.disk in GOOD
                and may_go_alone(facts, self._grounds(node, vm_facts(place, vm, self.world.home(vm))))]

    def _grounds(self, node: str, vm: VmFacts) -> VmFacts:
        mark = vm.me.ahead and not _fresh(self.world.machines[node], vm.name)
        return vm._replace(me=vm.me._replace(ahead=mark))

    def _cut_off(self, node: str) -> bool:
        """Not by the peer's silence, which began no earlier."""
        return self.world.now >= self.world.held and self.switch[node] <= self.apart < self.world.now
