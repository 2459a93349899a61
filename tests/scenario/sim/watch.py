"""What must come true in time: sampled while a run goes on, beside what the judge sees at every write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenario.language import NODES
from tests.scenario.sim.guests import RECENT
from tests.scenario.sim.tickets import GOOD, Tickets

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine
    from tests.scenario.sim.world import World

EVERY = 0.2  # seconds between two looks
BLIND = 1.0  # seconds of the one double fault that cannot be survived without fencing
IDLE = 5.0  # seconds in which a guest starts that could: what is left of it is stopped, and the lull tells
FROZEN = 12.0  # seconds in which writes go on when the peer gives its word; a lost handler is noticed after 6
STOPPING = 60.0  # seconds after which a guest that ignores its stop_timeout of one second is surely gone
SOUND = 6.0  # seconds for which a node was well when its peer died: it knows all that there is to know
ALONE = 12.0  # seconds in which it then runs what the peer ran
STILL = 25.0  # seconds in which a guest writes again, wherever, when the newest copy is on a node that may use it
HEARD = 3.0  # seconds after which nodes that hear each other know where a guest runs
TOLD = 2.0  # seconds, and LATE, after which everybody knows that a node has no LAN
WOKEN = 1.8  # seconds in which a command that was woken looks, unless it runs; one that failed is held back for one
LATE = 3.5  # seconds that a decision to stop may lag behind what was true
HELD = 4.0  # seconds more where a command was kept standing still


class Watch:
    """The promises with a time in them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tickets = Tickets(world)
        self.strict = False  # at the nominal pace only
        self.blind = 0.0
        self.idle: dict[str, float] = {}  # VM: since when it could run
        self.frozen: dict[str, float] = {}
        self.lost: dict[str, float] = {}  # node: since when it reaches nobody on the LAN
        self.sound: dict[str, float] = {}  # node: since when it is well, with its LAN, and has not stood still
        self.last: dict[tuple[str, str], bool] = {}  # (node, VM): could it have gone on, had its peer died then?
        self.heirs: set[tuple[str, str]] = set()  # (node, VM): whose peer died then
        self.heard = 0.0  # since when both hear each other
        self.good: dict[tuple[str, str], float] = {}  # (node, VM): when it last could have been given to its peer

    def look(self) -> None:
        """Once in EVERY seconds."""
        world = self.world
        world.calm.look()
        if not self._hear_each_other():
            self.heard = world.now
        self.blind = self.blind + EVERY if world.nobody_can_tell() else 0.0
        if self.blind > BLIND:
            world.judge.excuse()
        if world.judge.excused:
            return
        self.tickets.look()
        for node in NODES:
            late = world.wires.ports[node, "production"].delay > 1
            if not late and (world.wires.reaches_switch(node) or world.wires.both_ways("production")):
                self.lost.pop(node, None)
            else:
                self.lost.setdefault(node, world.now)
            if not self._sound(node):
                self.sound.pop(node, None)
            else:
                self.sound.setdefault(node, world.now)
        for vm in world.mirrors:
            self._bound(self.idle, vm, IDLE, self._could_run(vm), "does not run, though it could on")
            self._bound(self.frozen, vm, FROZEN, self._could_thaw(vm), "stays frozen, though its peer lives, on")
            self._bound(self.idle, f"{vm} still", STILL, self._could_go_on(vm), "stands still, with all data on")
            self._bound(self.idle, f"{vm} alone", ALONE, self._inherits(vm), "waits for a person without having to")
            for node in NODES:
                if self._can_be_given(node, vm):
                    self.good[node, vm] = world.now
                self._stopping(world.machines[node], vm)
        for node in NODES:
            self._wakes(world.machines[node])

    def _bound(self, since: dict[str, float], name: str, limit: float, where: str, what: str) -> None:
        if not where:
            since.pop(name, None)
        elif self.world.now < self.world.held:
            since[name] = self.world.now  # whoever is kept standing still is not late
        elif self.strict and self.world.now - since.setdefault(name, self.world.now) > limit:
            self.world.violated(f"{name} {what} {where}")

    def _wakes(self, machine: Machine) -> None:
        """What changes wakes the next command at once: a wake-up is not lost, whatever runs when it comes."""
        for command in ("kc-failover", "kc-quorum"):
            idle = self._well(machine.name) and machine.units.target and command not in machine.units.running
            late = command if idle and command in machine.wakes else ""
            self._bound(self.idle, f"{machine.name} {command}", WOKEN, late, "was woken and does not look:")

    def _well(self, node: str) -> bool:
        """Does everything that decides work there?"""
        machine = self.world.machines[node]
        heart = machine.units.heartbeat if machine.on else None
        if heart is None or heart.paused:
            return False
        return not (machine.life.hung or machine.run.full or machine.units.target_stopping)

    def _could_run(self, vm: str) -> str:
        """The node that knows that it holds the newest data, and that the guest belongs there."""
        world, mirror = self.world, self.world.mirrors[vm]
        machines = [machine for machine in world.machines.values() if machine.on]
        if any(vm in machine.guests or stopped(machine, vm) or _ended(machine, vm) for machine in machines):
            return ""
        for node in NODES:
            machine, side = world.machines[node], mirror.sides[node]
            word = side.word()
            if not self._well(node) or side.broken or word is None or word.frozen:
                continue
            decision = world.status(node)["decision"]
            if decision not in ("all", "home"):
                continue
            newest = mirror.history.contains(side.content, mirror.history.acknowledged)
            peer = world.machines[machine.peer]
            asked = self._well(peer.name) and peer.var.peek(f"ahead/{vm}") is None  # who is there must give its word
            apart = machine.var.peek(f"ahead/{vm}") is not None and (not peer.on or asked)
            home = decision == "all" or node == world.home(vm)
            if newest and (word.even and home or not word.connected and apart and word.disk in GOOD):
                return node
        return ""

    def _could_go_on(self, vm: str) -> str:
        """The node that is ahead with every write, while the peer is off or hears it, and has no better claim."""
        world, mirror = self.world, self.world.mirrors[vm]
        if world.now - world.judge.last.get(vm, 0.0) < RECENT:
            return ""
        for node in NODES:
            machine, side = world.machines[node], mirror.sides[node]
            peer, word = world.machines[machine.peer], side.word()
            there = not peer.on or self._well(peer.name) and self._hear_each_other()
            if not (self._well(node) and there and word and word.disk in GOOD) or side.broken:
                continue
            others = side.peer.word()
            rival = others and others.disk in GOOD and peer.var.peek(f"ahead/{vm}") is not None
            rival = rival or others and others.waiting and others.disk not in GOOD  # frozen until its cable is back
            held = any(stopped(each, vm) or _ended(each, vm) for each in (machine, peer) if each.on)
            newest = mirror.history.contains(side.content, mirror.history.acknowledged)
            ahead = machine.var.peek(f"ahead/{vm}") is not None
            if ahead and newest and not rival and not held and world.status(node)["decision"] in ("all", "home"):
                return node
        return ""

    def started(self, machine: Machine, vm: str) -> None:
        """Its QEMU begins: nobody starts a second one beside a guest that he hears of, whatever has happened before."""
        world = self.world
        lately = world.now - max(self.heard, world.held) <= HEARD
        if not self.strict or vm not in world.machines[machine.peer].guests or lately:
            return
        if machine.peer in world.judge.running(vm):
            world.violated(f"{vm} is started on {machine.name}, which hears that it runs on {machine.peer}")

    def _sound(self, node: str) -> bool:
        machine = self.world.machines[node]
        held = (machine.var.peek("words/maintenance") or "").startswith("yes")
        return self._well(node) and self.world.wires.answered_in_time(node) and not held

    def _inherits(self, vm: str) -> str:
        """The node that may go on alone by its peer's death, and has not."""
        for node in NODES:
            machine = self.world.machines[node]
            peer = self.world.machines[machine.peer]
            sound = self.world.now - self.sound.get(node, self.world.now) > SOUND
            if peer.on or not sound or self.world.mirrors[vm].sides[node].broken:
                self.heirs.discard((node, vm))
            elif self.last.get((node, vm)):
                self.heirs.add((node, vm))
            self.last[node, vm] = sound and self._agreed(vm)
            held_back = vm in machine.guests or stopped(machine, vm) or _ended(machine, vm) if machine.on else True
            if (node, vm) in self.heirs and not held_back:
                return node
        return ""

    def _agreed(self, vm: str) -> bool:
        """Both run, hear each other and say that the copies are the same."""
        machines = self.world.machines.values()
        well = all(machine.on and machine.daemon and machine.run.peek(f"even/{vm}") is not None for machine in machines)
        return well and self.world.mirrored() and self._hear_each_other()

    def _could_thaw(self, vm: str) -> str:
        """A frozen primary whose peer hears it, is well, and has no better claim."""
        world, mirror = self.world, self.world.mirrors[vm]
        for node in NODES:
            side, peer = mirror.sides[node], mirror.sides[node].peer
            word = side.word()
            if word is None or not word.waiting or word.disk != "UpToDate" or word.connection == "StandAlone":
                continue
            others = peer.word()
            there = self._well(node) and self._well(peer.node) and self._hear_each_other()
            newest = mirror.history.contains(side.content, mirror.history.acknowledged)
            gone_on = world.machines[peer.node].var.peek(f"ahead/{vm}") is not None
            if there and newest and others and not others.primary and not gone_on:
                return node
        return ""

    def _hear_each_other(self) -> bool:
        """By the words of both."""
        links = [machine.run.peek("links") or "" for machine in self.world.machines.values()]
        return any(all(f"{network}=up" in line for line in links) for network in ("storage", "production"))

    # Giving up

    def _can_be_given(self, node: str, vm: str) -> bool:
        """Both copies good, its peer well and with a LAN, or not both without one since the same moment."""
        world = self.world
        words = [side.word() for side in world.mirrors[vm].sides.values()]
        peer = world.machines[node].peer
        takes = self._well(peer) and world.now - self.lost.get(peer, world.now) <= TOLD
        return all(word and word.even for word in words) and takes and not self._together()

    def _together(self) -> bool:
        """Did both lose their LAN in the same moment? Then nothing is gained by moving."""
        lost = [self.lost.get(node) for node in NODES]
        return lost[0] is not None and lost[1] is not None and abs(lost[0] - lost[1]) < 1.0

    def stopped_by_us(self, machine: Machine, vm: str) -> None:
        """kc-failover stops a guest."""
        world = self.world
        twice = all(vm in each.guests for each in world.machines.values() if each.on)
        late = LATE + (HELD if world.now - world.held <= LATE else 0.0)
        lately = self._can_be_given(machine.name, vm) or world.now - self.good.get((machine.name, vm), -99.0) <= late
        if stopped(machine, vm):
            world.calm.ended.add(vm)
        elif not twice:
            world.calm.stops(machine, vm)
        if self.strict and not (lately or twice or world.judge.excused or stopped(machine, vm)):
            world.violated(f"{vm} is stopped on {machine.name}, though its peer cannot take it")

    def _stopping(self, machine: Machine, vm: str) -> None:
        unit = machine.units.vm[vm] if machine.on else None
        if unit is None or unit.state != "deactivating":
            self.idle.pop(f"stop {machine.name} {vm}", None)
            return
        since = self.idle.setdefault(f"stop {machine.name} {vm}", self.world.now)
        word = self.world.mirrors[vm].sides[machine.name].word()
        frozen = word is None or word.frozen or machine.life.hung
        if frozen:
            self.idle[f"stop {machine.name} {vm}"] = self.world.now
        elif self.strict and self.world.now - since > STOPPING:
            self.world.violated(f"{vm} is not stopped on {machine.name}, {STOPPING:g} s after it should be")


def _ended(machine: Machine, vm: str) -> bool:
    """Did it switch itself off, or fail too often, as far as this node knows?"""
    names = [f"{whose}local/{mark}/{vm}" for whose in ("", "peer/") for mark in ("off", "failed")]
    return any(machine.run.peek(name) is not None for name in names)


def stopped(machine: Machine, vm: str) -> bool:
    """Did a person say so, as far as this node knows?"""
    words = [machine.var.peek(f"words/stopped/{vm}"), machine.run.peek(f"local/stopped/{vm}"),
             machine.run.peek(f"peer/local/stopped/{vm}")]
    return any((word or "").startswith("yes") for word in words)
