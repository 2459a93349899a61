"""systemd on a simulated machine, as far as the units in systemd/ use it (FACTS 2)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kisscluster.base.run import Ended
from tests.lab.standin.model import Role
from tests.scenario.sim.clock import Task, Timer
from tests.scenario.sim.guests import Guest
from tests.scenario.sim.watch import stopped

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine

TICK_FIRST, TICK = 2.0, 5.0  # kc-failover.timer, kc-quorum.timer
CHAIN, CONTENT, PAUSE = ("failover", "quorum"), (0, 75, 106), 1.0  # kc-pause.service
LEAVE = 300  # kc-leave.service
RESTART, BURST, INTERVAL = 1.0, 3, 600.0  # kc-vm@.service
WATCHDOG = 4.0
ONESHOTS = {"kc-demote": ("--orphan",), "kc-outdate": (), "kc-adjust": (), "kc-migrate": ("--direct",)}
DEMOTE = ("kc-demote", "--timeout", "100")


@dataclass
class Unit:
    """kc-vm@VM or kc-promote@VM."""

    state: str = "inactive"  # activating, active, deactivating, auto-restart, failed
    queued: str = ""  # the job that waits for the end of what runs now
    task: Task | None = None
    posting: bool = False  # ExecStopPost= runs, once for each end of the main process
    for_good: bool = False  # a job wants it stopped: it is not started again, however it ended
    starts: list[float] = field(default_factory=list)
    waiting: list[Callable[[bool], object]] = field(default_factory=list)

    def spent(self, now: float) -> bool:
        """StartLimitBurst= within StartLimitIntervalSec=: are all starts used up?"""
        self.starts = [time for time in self.starts if time > now - INTERVAL]
        return len(self.starts) >= BURST


class Units:
    """The units of one run of a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.clock, self.life = machine, machine.clock, machine.life
        self.heartbeat: Task | None = None
        self.target: bool = False
        self.target_stopping: bool = False
        self.leaves_at = 0.0
        self.leaving: bool = False  # kc-leave.service: whatever is stopped after it waits
        self.running: dict[str, Task] = {}
        self.timers: dict[str, Timer] = {}
        self.vm: dict[str, Unit] = {name: Unit() for name in machine.vms}
        self.disk: dict[str, Unit] = {name: Unit() for name in machine.vms}
        self.watchdog: Timer | None = None

    # The chain

    def start_target(self) -> None:
        """kisscluster.target."""
        self.target = True
        self.start_heartbeat()
        for name in CHAIN:
            self._arm(name, TICK_FIRST)
            self.flagged(name)

    def start_heartbeat(self) -> None:
        if self.target and self.heartbeat is None:
            self.heartbeat = self.machine.program(("kc-heartbeat",), self._heartbeat_ended)

    def _heartbeat_ended(self, _: object) -> None:
        self.heartbeat = None
        self.machine.daemon = None
        self.clock.after(1.0, self.life, self.start_heartbeat)

    def stop_heartbeat(self) -> None:
        """SIGSTOP: the watchdog ends it after a while (WatchdogSec=, SIGKILL)."""
        if self.heartbeat and not self.watchdog:
            self.heartbeat.paused = True
            self.watchdog = self.clock.after(WATCHDOG, self.life, self._watchdog, self.heartbeat)

    def _watchdog(self, task: Task) -> None:
        self.watchdog = None
        task.kill()

    def continue_heartbeat(self) -> None:
        """SIGCONT."""
        if self.watchdog and self.heartbeat:
            self.watchdog.cancel()
            self.watchdog = None
            self.heartbeat.paused = False
            if self.heartbeat.missed:
                self.heartbeat.missed = False
                self.clock.after(0, self.life, self.heartbeat.resume, None)

    def _arm(self, name: str, seconds: float = TICK) -> None:
        """kc-failover.timer, kc-quorum.timer: so long after the end of the last run."""
        if timer := self.timers.pop(name, None):
            timer.cancel()
        self.timers[name] = self.clock.after(seconds, self.life, self._chain, name)

    def raise_flag(self, name: str) -> None:
        with suppress(OSError):
            self.machine.run.flag(f"wake/{name}")

    def flagged(self, name: str) -> None:
        """A path unit looks: PathExists= is a level, not an edge; the command takes the flag away."""
        if self.machine.run.peek(f"wake/{name}") is not None and name in CHAIN:
            self._chain(name)

    def _chain(self, name: str) -> None:
        if self.target and not self.target_stopping:
            self.oneshot(f"kc-{name}", (), lambda status: self._chain_ended(name, status))

    def _chain_ended(self, name: str, status: int | None) -> None:
        """kc-pause.service delays the next run of a command that failed."""
        self._arm(name)
        if status in CONTENT:
            self.flagged(name)
        else:
            self.clock.after(PAUSE, self.life, self.flagged, name)

    def oneshot(self, program: str, arguments: tuple[str, ...], after: Callable[[Any], object] = lambda status: None
                ) -> None:
        """Start a service of type oneshot, unless it runs already."""
        key = " ".join([program, *arguments])
        if key in self.running:
            return

        def ended(status: Any) -> None:
            del self.running[key]
            self.machine.world.ended(self.machine, key, status)
            after(status)
        self.running[key] = self.machine.program((program, *arguments), ended)

    # systemctl

    def systemctl(self, words: tuple[str, ...], timeout: float) -> Ended:
        """Queue jobs, or (without --no-block) wait for the end of one."""
        block = "--no-block" not in words
        verb, *names = [word for word in words if word != "--no-block"]
        if verb == "reset-failed":
            for name in names:
                self._reset_failed(name.removesuffix(".service").partition("@")[2])
            return Ended(0, "", "")
        task = self.machine.clock_task()
        good = True
        for name in names:
            kind, _, vm = name.removesuffix(".service").partition("@")
            if verb == "stop" and kind == "kc-migrate":
                if found := self.running.get(f"kc-migrate --direct {vm}"):
                    self.clock.after(0, self.life, found.signalled)
            elif kind in ("kc-vm", "kc-promote") and block:
                ended = self._awaited(verb, vm, task, timeout)
                if ended is None:
                    return Ended(124, "", f"systemctl: did not end within {timeout:g} s")
                good &= ended
                end = self.clock.now + timeout  # a start that comes meanwhile takes the stop back
                while kind == "kc-promote" and self.disk[vm].state != "inactive" and self.clock.now < end:
                    self.clock.sleep(0.05)
            elif kind in ("kc-vm", "kc-promote"):
                self._job(verb, vm, lambda good: None)
            elif kind == "kc-fence":
                self.oneshot("kc-fence", ())
            elif kind == "kc-migrate" or not self.target_stopping:
                self.oneshot(kind, (*ONESHOTS[kind], vm))
        return Ended(0 if good else 1, "", "" if good else "A dependency job failed")

    def _awaited(self, verb: str, vm: str, task: Task, timeout: float) -> bool | None:
        """How a job ended, or None where that takes too long: the job goes on then, systemctl does not."""
        waits = [True]

        def resume(good: bool | None) -> None:
            if waits:
                waits.clear()
                self.clock.after(0, task.life, task.resume, good)
        limit = self.clock.after(timeout, task.life, resume, None)
        self._job(verb, vm, resume)
        ended: bool | None = self.clock.wait()
        limit.cancel()
        return ended

    def _reset_failed(self, vm: str) -> None:
        """It also forgets the starts that the limit counts."""
        unit = self.vm[vm]
        unit.starts.clear()
        if unit.state == "failed":
            unit.state = "inactive"

    def _job(self, verb: str, vm: str, done: Callable[[bool], object]) -> None:
        unit = self.vm[vm]
        unit.waiting.append(done)
        program = self.machine.clock_task().program
        if verb == "stop" and unit.state == "active" and program == "kc-failover":
            self.machine.world.watch.stopped_by_us(self.machine, vm)
        if verb == "stop" and self.leaving:
            return
        if verb == "start" and self.target_stopping:
            self._done(unit, False)  # a start that conflicts with shutdown.target's job is refused
        elif verb == "start":
            self._start(vm)
        else:
            self._stop(vm)

    def _done(self, unit: Unit, good: bool) -> None:
        waiting, unit.waiting = unit.waiting, []
        for done in waiting:
            done(good)

    # kc-vm@ and what it is bound to

    def _start(self, vm: str) -> None:
        unit, disk = self.vm[vm], self.disk[vm]
        if unit.state in ("active", "activating"):
            if unit.state == "active":
                self._done(unit, True)
            return
        if unit.state == "deactivating" or disk.state == "deactivating":
            unit.queued = "start"
            return
        if unit.spent(self.clock.now) and unit.state == "failed":
            self._done(unit, False)
            self.machine.failed(vm)
            return
        unit.state, unit.queued = "activating", ""
        if disk.state == "active":
            self._run_guest(vm)
        elif disk.state == "inactive":
            disk.state = "activating"
            disk.task = self.machine.program(("kc-promote", vm), lambda status: self._promoted(vm, status))

    def _promoted(self, vm: str, status: int | None) -> None:
        """ExecCondition: 1 to 254 skip the unit, 255 and a signal are failures; both fail who depends on it."""
        unit, disk = self.vm[vm], self.disk[vm]
        disk.task = None
        self.machine.world.ended(self.machine, f"kc-promote {vm}", status)
        disk.state = "active" if status == 0 else "inactive"
        if unit.state == "activating":
            if status == 0:
                self._run_guest(vm)
            else:
                unit.state = "inactive"
                self._done(unit, False)
        else:
            self._unneeded(vm)

    def _run_guest(self, vm: str) -> None:
        unit = self.vm[vm]
        unit.starts.append(self.clock.now)
        self._done(unit, True)  # Type=exec: the job is done before kc-vm-start has become QEMU
        self.clock.after(self.machine.world.pace.start(), self.life, self._execute, vm)

    def _execute(self, vm: str) -> None:
        """kc-vm-start --direct becomes QEMU; nobody opens a Secondary."""
        machine, unit = self.machine, self.vm[vm]
        if unit.state != "activating":
            return
        side = machine.world.mirrors[vm].sides[machine.name]
        beside = side.state and side.state.linked and side.state.peer_role is Role.PRIMARY
        waits = machine.run.has(f"local/incoming/{vm}") and not machine.run.has(f"local/running/{vm}")
        if beside and not waits:
            self.clock.after(0.2, self.life, self._execute, vm)  # vm_start.alone
            return
        if vm in machine.guests or side.state is None or side.state.role is not Role.PRIMARY:
            unit.state = "active"
            self.guest_ended(vm, 1)
            return
        try:
            if not waits:
                machine.run.write(f"local/running/{vm}", "")
        except OSError:
            unit.state = "active"
            self.guest_ended(vm, 69)
            return
        unit.state = "active"
        if not waits:
            machine.world.watch.started(machine, vm)
            machine.world.calm.booted(machine, vm)
        Guest(machine, vm, side, waits)
        machine.log(f"{vm}: its QEMU runs")
        self._done(unit, True)

    def _stop(self, vm: str) -> None:
        unit = self.vm[vm]
        unit.queued = ""
        if unit.state in ("inactive", "failed"):
            self._done(unit, True)
        elif unit.state == "active":
            unit.for_good = True
            self._ask(vm, {})
        elif unit.state == "deactivating":
            unit.for_good = True
        elif unit.state in ("activating", "auto-restart"):
            unit.state = "inactive"
            self._done(unit, True)
            self._unneeded(vm)

    def _ask(self, vm: str, environment: dict[str, str]) -> None:
        """ExecStop=."""
        unit = self.vm[vm]
        unit.state = "deactivating"
        unit.task = self.machine.program(("kc-vm-stop", "--direct", vm), lambda status: self._asked(vm))
        unit.task.environment = environment

    def _asked(self, vm: str) -> None:
        """ExecStop ended; what still lives is killed by systemd."""
        unit = self.vm[vm]
        unit.task = None
        if guest := self.machine.guests.get(vm):
            guest.end(137)
        else:
            self._post(vm, "success")

    def guest_ended(self, vm: str, status: int) -> None:
        """The main process is gone."""
        unit = self.vm[vm]
        self.machine.log(f"{vm}: its QEMU ended with {status}")
        if unit.state == "active" and status == 0:
            self._ask(vm, {"EXIT_CODE": "exited", "EXIT_STATUS": "0"})  # ExecStop= is also for one that ended well
        elif unit.state == "active" or unit.state == "deactivating" and unit.task is None:
            self._post(vm, "success" if status == 0 else "exit-code")

    def _post(self, vm: str, result: str) -> None:
        """ExecStopPost, and what follows it."""
        unit = self.vm[vm]
        if not unit.posting:
            unit.state, unit.posting = "deactivating", True
            unit.for_good |= result == "success"
            self.machine.post(vm, result, lambda: self._ended(vm))

    def _ended(self, vm: str) -> None:
        unit = self.vm[vm]
        for_good, unit.for_good, unit.posting = unit.for_good, False, False
        if for_good or unit.queued == "start":
            unit.state = "inactive"
            self._done(unit, True)
            self._unneeded(vm)
        elif unit.spent(self.clock.now):
            unit.state = "failed"
            self._done(unit, False)
            self.machine.failed(vm)
            self._unneeded(vm)
        else:
            unit.state = "auto-restart"
            self.clock.after(RESTART, self.life, self._restart, vm)

    def _restart(self, vm: str) -> None:
        if self.vm[vm].state == "auto-restart":
            self._start(vm)

    def _unneeded(self, vm: str) -> None:
        """StopWhenUnneeded=: the disk is given up when no guest needs it."""
        unit, disk = self.vm[vm], self.disk[vm]
        if disk.state == "active" and unit.state in ("inactive", "failed"):
            disk.state = "deactivating"
            disk.task = self.machine.program((*DEMOTE, vm), lambda status: self._demoted(vm, status))
        elif unit.queued == "start" and disk.state == "inactive":
            self._start(vm)

    def _demoted(self, vm: str, status: int | None) -> None:
        disk = self.disk[vm]
        disk.task, disk.state = None, "inactive"
        self.machine.world.ended(self.machine, f"kc-demote {vm}", status)
        if self.vm[vm].queued == "start":
            self._start(vm)

    # Shutdown

    def shut_down(self, done: Callable[[], object]) -> None:
        """A planned leave: first the word, then the guests, the heartbeat last (kc-leave.service)."""
        machine = self.machine
        with suppress(OSError):
            machine.run.write("local/leaving", "")
        self.target_stopping = self.leaving = True
        self.leaves_at = machine.world.now
        leave = ("kc-failover", "--leave", "--timeout", str(LEAVE))
        machine.program(("kc-quorum",), lambda _: machine.program(leave, lambda _: self._stop_all(done)))

    def _stop_all(self, done: Callable[[], object]) -> None:
        self.leaving = False
        for vm in self.vm:
            guest = self.machine.guests.get(vm)
            if guest and guest.status == "running" and not stopped(self.machine, vm):
                self.machine.world.calm.stops(self.machine, vm, self.leaves_at)
            self._stop(vm)
        self._wait_for_end(done)

    def _wait_for_end(self, done: Callable[[], object]) -> None:
        busy = any(unit.state not in ("inactive", "failed") for unit in [*self.vm.values(), *self.disk.values()])
        if busy:
            self.clock.after(0.1, self.life, self._wait_for_end, done)
        else:
            self.clock.after(0, None, done)
