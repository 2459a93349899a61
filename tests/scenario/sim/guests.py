"""QEMU and the guest in it: it writes, waits for the answer, and writes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.scenario.sim.disks import Side

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine

WRITE = 0.25  # seconds between two writes
NARROW = 4  # times as long a move takes over a cable that is narrow for it
RECENT = 1.5  # seconds within which a running guest has written


class Guest:
    """A running QEMU; the disk is open as long as it lives."""

    def __init__(self, machine: Machine, name: str, side: Side, waits: bool = False) -> None:
        self.machine, self.name, self.side = machine, name, side
        self.clock = machine.clock
        self.stopped: bool = False  # SIGSTOP
        self.dying: int | None = None
        self.asleep: bool = False  # in a write: not even SIGKILL ends it while the disk is frozen
        self.quick = machine.world.obedient
        self.owed = False
        self.status: str = "inmigrate" if waits else "running"  # as query-status has it
        self.memory: int | None = None  # what was acknowledged when the memory that it got was sent
        self.sending: str = ""  # as query-migrate has it
        self.link: object = None
        side.need().opens += 1
        machine.guests[name] = self
        if not waits:
            self.clock.after(machine.world.pace.guest, machine.life, self._write)

    def _write(self) -> None:
        if self.machine.guests.get(self.name) is not self:
            return
        if self.stopped or self.status != "running":
            self.owed = True
            return
        self.asleep = True
        self.side.write(self._written)

    def _written(self, good: bool) -> None:
        """The answer; not before this moment is the guest told."""
        self.asleep = False
        if self.dying is not None:
            self._gone(self.dying)
        elif self.machine.on:
            self.clock.after(WRITE, self.machine.life, self._write)

    def stop(self) -> None:
        self.stopped = True

    def resume(self) -> None:
        self.stopped = False
        self._go_on()

    def _go_on(self) -> None:
        if self.owed and self.status == "running":
            self.owed = False
            self._write()

    def tell(self, command: str) -> None:
        """QMP."""
        power = command == "system_powerdown" and self.quick and self.status == "running"
        if not self.stopped and (command == "quit" or power):
            self.end(0)

    def cont(self) -> None:
        """QMP: it runs, with the memory that it has."""
        if self.status == "running":
            return
        history = self.side.mirror.history
        peer = self.side.linked_to
        # who is cut off reads its own disk, and writes nothing
        disk = history.acknowledged if peer and peer.linked_to is self.side else self.side.content
        if self.memory is not None and not history.contains(self.memory, disk):
            self.machine.world.violated(f"{self.name} runs on {self.machine.name} with memory older than its disk")
        if self.memory is not None:
            self.sending = "completed"  # QEMU says that of its own arrival, too
        self.memory, self.owed = None, True
        self._set("running")

    def _set(self, status: str) -> None:
        self.status = status
        self._go_on()

    # Sending its memory

    def migrate(self) -> None:
        """QMP: begin; the other one must be waiting, and reachable."""
        target = self._target()
        if target is None:
            self.sending = "failed"
            return
        self.sending, self.link = "active", object()
        target.link = self.link
        world = self.machine.world
        seconds = world.pace.memory * (NARROW if world.wires.ports[self.machine.peer, "storage"].narrow else 1)
        self.clock.after(seconds, self.machine.life, self._all_but_the_last, self.link)

    def cancel(self) -> None:
        """QMP: it runs on here, unless all was sent."""
        if self.sending == "active":
            self._fail("cancelled")

    def _fail(self, status: str) -> None:
        self.sending, link, self.link = status, self.link, None
        self._set("running")
        target = self._target()
        if target and target.link is link and target.status == "inmigrate":
            target.end(1)

    def _target(self) -> Guest | None:
        """The one that waits on the peer, while a packet can reach it."""
        peer = self.machine.world.machines[self.machine.peer]
        if not peer.on or peer.life.hung or not self.side.mirror.path():
            return None
        return peer.guests.get(self.name)

    def _linked(self, link: object, again: Callable[[object], None]) -> Guest | None:
        """The same, if it still has our connection; a QEMU that ended closes it, a silent path only makes it wait."""
        if self.link is not link or self.sending != "active" or self.machine.guests.get(self.name) is not self:
            return None
        target = self._target()
        peer = self.machine.world.machines[self.machine.peer]
        reachable = peer.on and not peer.life.hung and self.side.mirror.path()
        if reachable and (target is None or target.link is not link):
            self._fail("failed")
            return None
        if target is None:
            self.clock.after(0.1, self.machine.life, again, link)
        return target

    def _all_but_the_last(self, link: object) -> None:
        """The guest stands still from here on, once its writes are done."""
        if self._linked(link, self._all_but_the_last) is None:
            return
        self.status = "finish-migrate"
        if self.asleep:
            self.clock.after(0.01, self.machine.life, self._all_but_the_last, link)
        else:
            self.clock.after(self.machine.world.pace.last, self.machine.life, self._the_last, link)

    def _the_last(self, link: object) -> None:
        """The other one has everything, and says so; that word may be lost."""
        target = self._linked(link, self._the_last)
        if target is not None:
            target.memory = self.side.mirror.history.acknowledged
            target._set("paused")
            self.clock.after(0.02, self.machine.life, self._completed, link)

    def _completed(self, link: object) -> None:
        if self._linked(link, self._completed) is None:
            return
        self.sending, self.status, self.link = "completed", "postmigrate", None

    def end(self, status: int) -> None:
        """It ends, as soon as its disk lets it."""
        if self.machine.guests.get(self.name) is not self or self.dying is not None:
            return
        self.dying = status
        if not self.asleep:
            self._gone(status)

    def _gone(self, status: int) -> None:
        del self.machine.guests[self.name]
        if self.memory is not None:
            self.machine.world.calm.lost(self.machine, self.name)
        if self.sending == "active":
            self._fail("failed")
        if self.side.state:
            self.side.state.opens -= 1
        self.clock.after(0, self.machine.life, self.machine.units.guest_ended, self.name, status)
