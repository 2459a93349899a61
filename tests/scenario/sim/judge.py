"""What must hold in every run, at every moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kisscluster.decide.words import BAD
from tests.scenario.sim.disks import Side
from tests.scenario.sim.guests import RECENT

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine
    from tests.scenario.sim.world import World

TOLD = 1.0  # seconds until the peer has heard that a mark was taken back: two looks of the heartbeat


class Judge:
    """Watches every acknowledged write and every reset."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.found: list[str] = []
        self.cause: BaseException | None = None
        self.writes: dict[str, dict[str, float]] = {}  # VM: node: when it was last told that a write is on disk
        self.began: dict[tuple[str, str], float] = {}  # (VM, node): the first of these writes, without a gap since
        self.last: dict[str, float] = {}  # VM: the last of these writes, wherever
        self.longest: dict[str, float] = {}  # VM: the longest time between two of them
        self.excused: set[str] = set()  # VMs that two nodes may write to: nothing can avoid it in this run
        self.loss_accepted: set[str] = set()
        self.forked: set[str] = set()
        self.kept: set[tuple[str, str]] = set()  # (VM, node): is ahead because the peer's disk failed, and went nowhere
        self.unmarked_at: dict[tuple[str, str], float] = {}  # (VM, node): when it was last no longer ahead

    def begin(self) -> None:
        """Every guest has just written."""
        self.writes = {vm: {name: 0.0 for name, machine in self.world.machines.items() if vm in machine.guests}
                       for vm in self.world.mirrors}
        self.began.clear()
        self.last, self.longest = dict.fromkeys(self.writes, 0.0), dict.fromkeys(self.writes, 0.0)

    def violated(self, what: str, cause: BaseException | None = None) -> None:
        self.found.append(f"{self.world.now:.2f} {what}")
        self.cause = self.cause or cause
        self.world.log("!", what)

    def excuse(self) -> None:
        """From now on two writers are nobody's fault; all else must hold."""
        self.excused = set(self.world.mirrors)

    def accepted(self, vm: str) -> None:
        """A human gave up what one of the copies has: once may a write not follow, and then all is as before."""
        self.loss_accepted.add(vm)
        self.excused.discard(vm)
        self.forked.discard(vm)

    def write(self, side: Side, number: int, good: bool) -> None:
        """An acknowledged write follows every earlier one, or something is lost."""
        vm = side.mirror.name
        if not good and vm in self.loss_accepted:
            self.loss_accepted.discard(vm)
        elif not good and vm not in self.forked:
            self.forked.add(vm)
            if vm in self.excused:
                self.world.log("!", f"{vm}: both nodes write")
            else:
                self.violated(f"{vm}: a write on {side.node} does not follow the last acknowledged one")
        if side.released and self.world.machines[side.node].var.peek(f"ahead/{vm}") is None:
            self.violated(f"{vm}: {side.node} writes alone by a handler's leave, and is not ahead")
        if not self._recent(vm, side.node):
            self.began[vm, side.node] = self.world.now
        self.writes.setdefault(vm, {})[side.node] = self.world.now
        self.longest[vm] = self._pause(vm)
        self.last[vm] = self.world.now

    def marked(self, side: Side) -> None:
        """It is ahead; where kc-failover says so of a copy that is not primary, it only keeps what both have (*20)."""
        word = side.word()
        if self.world.machines[side.node].clock_task().program == "kc-failover" and word and not word.primary:
            self.kept.add((side.mirror.name, side.node))

    def unmarked(self, side: Side) -> None:
        """Its node is no longer ahead: then nobody knows that what is written without the peer is the newest."""
        program = self.world.machines[side.node].clock_task().program
        self.kept.discard((side.mirror.name, side.node))
        if program != "kc-failover":
            self.unmarked_at[side.mirror.name, side.node] = self.world.now
        # the peer may leave just after kc-failover saw them even: then its next look writes the mark again
        unsure = program == "kc-failover"
        self.world.clock.after(TOLD if unsure else 0, None, self._unmarked_for_good, side, unsure)

    def _unmarked_for_good(self, side: Side, unsure: bool) -> None:
        word, vm = side.word(), side.mirror.name
        marked = self.world.machines[side.node].var.peek(f"ahead/{vm}") is not None
        if word is None or not word.running_alone or marked or vm in self.loss_accepted:
            return
        if unsure:
            self.world.clock.after(TOLD, None, self._unmarked_for_good, side, False)
        else:
            self.violated(f"{vm}: {side.node} writes alone, and its mark ahead is taken away")

    def _pause(self, vm: str) -> float:
        return max(self.longest.get(vm, 0.0), self.world.now - self.last.get(vm, 0.0))

    def pauses(self) -> str:
        """How long each guest had to wait for a write, at most."""
        silent = {vm: " (silent at the end)" for vm, last in self.last.items() if self.world.now - last > RECENT}
        return ", ".join(f"{vm} {self._pause(vm):.1f} s{silent.get(vm, '')}" for vm in self.last)

    def _recent(self, vm: str, node: str) -> bool:
        last = self.writes.get(vm, {}).get(node)
        return last is not None and self.world.now - last <= RECENT

    def running(self, vm: str) -> set[str]:
        """Where it runs: who wrote lately, unless the other one began after that."""
        recent = [node for node in self.writes[vm] if self._recent(vm, node)]
        return {node for node in recent
                if not any(self.began.get((vm, other), 0.0) > self.writes[vm][node] for other in recent)}

    def reset(self, machine: Machine) -> None:
        """Only who was overtaken is ever reset: the peer's copy has what this one lacks, or is about to."""
        if not any(self._overtaken(machine, vm) for vm in self.world.mirrors):
            self.violated(f"{machine.name} was reset without having been overtaken")

    def _overtaken(self, machine: Machine, vm: str) -> bool:
        """Is the peer ahead, or was it when it was last heard? Who does not go on takes the mark back (*21)."""
        recent = self.world.now - self.unmarked_at.get((vm, machine.peer), -2 * TOLD) < 2 * TOLD
        ahead = recent or self.world.machines[machine.peer].var.has(f"ahead/{vm}")
        side = self.world.mirrors[vm].sides[machine.name]
        word, state = side.word(), side.state
        # of data with another identifier than it knew last, the kernel says that the peer went on
        known = state is not None and state.exposed in (0, side.peer.meta.current)
        only_kept = (vm, machine.peer) in self.kept and word is not None and word.disk in BAD and known
        return ahead and not only_kept and not machine.var.has(f"ahead/{vm}")
