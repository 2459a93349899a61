"""QEMU and the guest in it: it writes, waits for the answer, and writes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenario.sim.disks import Side

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine

WRITE = 0.25  # seconds between two writes
RECENT = 1.5  # seconds within which a running guest has written


class Guest:
    """A running QEMU; the disk is open as long as it lives."""

    def __init__(self, machine: Machine, name: str, side: Side) -> None:
        self.machine, self.name, self.side = machine, name, side
        self.clock = machine.clock
        self.stopped = False  # SIGSTOP
        self.dying: int | None = None
        self.asleep = False  # in a write: not even SIGKILL ends it while the disk is frozen
        self.quick = machine.world.obedient
        self.owed = False
        side.need().opens += 1
        machine.guests[name] = self
        self.clock.after(machine.world.pace.guest, machine.life, self._write)

    def _write(self) -> None:
        if self.machine.guests.get(self.name) is not self:
            return
        if self.stopped:
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
        if self.owed:
            self.owed = False
            self._write()

    def tell(self, command: str) -> None:
        """QMP."""
        if not self.stopped and (command == "quit" or command == "system_powerdown" and self.quick):
            self.end(0)

    def end(self, status: int) -> None:
        """It ends, as soon as its disk lets it."""
        if self.machine.guests.get(self.name) is not self or self.dying is not None:
            return
        self.dying = status
        if not self.asleep:
            self._gone(status)

    def _gone(self, status: int) -> None:
        del self.machine.guests[self.name]
        if self.side.state:
            self.side.state.opens -= 1
        self.clock.after(0, self.machine.life, self.machine.units.guest_ended, self.name, status)
