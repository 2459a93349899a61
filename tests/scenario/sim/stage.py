"""The real commands and the real heartbeat, given a simulated machine instead of the one they run on.

Only the doors to the outside are replaced: clocks, state files, configuration files, sockets, other programs. A
process knows its machine by the greenlet that it runs in.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent

from kisscluster.base import cli
from kisscluster.base.config import Config, Vm
from kisscluster.base.exits import Exit, Failure
from kisscluster.base.run import Doer, Ended
from kisscluster.base.state import State
from kisscluster.commands import (
    adjust,
    common,
    demote,
    failover,
    fence,
    fence_peer,
    migrate,
    outdate,
    promote,
    quorum,
    status,
    switch,
    vm_start,
    vm_stop,
)
from kisscluster.decide.facts import NodeFacts
from kisscluster.decide.words import Drbd
from kisscluster.see import beat, daemon, files, kernel, room
from kisscluster.see.files import Place
from tests.scenario.sim.clock import Task

if TYPE_CHECKING:
    from tests.scenario.sim.guests import Guest
    from tests.scenario.sim.machine import Machine

PROGRAMS: dict[str, Callable[[], int]] = {
    "kc-adjust": adjust.main, "kc-demote": demote.main, "kc-failover": failover.main, "kc-fence": fence.main,
    "kc-fence-peer": fence_peer.main, "kc-migrate": migrate.main, "kc-outdate": outdate.main,
    "kc-promote": promote.main, "kc-quorum": quorum.main, "kc-standby": switch.standby,
    "kc-maintenance": switch.maintenance, "kc-vm-start": vm_start.main, "kc-vm-stop": vm_stop.main,
    "kc-status": status.main,
}


PROCESSORS = 2


class Bug(AssertionError):
    """A command ended by an exception that is none of its answers."""


def here() -> Machine:
    """The machine of the process that runs now."""
    task = getcurrent()
    assert isinstance(task, Task)
    machine: Machine = task.owner
    return machine


class Hand(Doer):
    """The door to other programs."""

    def look(self, *argv: str) -> Ended:
        return here().execute(argv, self.timeout)

    def do(self, *argv: str, timeout: float | None = None, given: str = "") -> Ended:
        if not self.say(" ".join(argv)):
            return Ended(0, "", "")
        return here().execute(argv, timeout or self.timeout)


class SimCall(cli.Call):
    """One call of a command on a simulated machine."""

    def __init__(self, program: str, options: argparse.Namespace) -> None:
        machine = here()
        self.program, self.options = program, options
        self.run: State = machine.run
        self.state: State = machine.var
        self.config_file = options.config
        self.dry = options.dry_run
        self.timeout = options.timeout
        self.doer = Hand(self.dry, False, self.timeout)
        self.said: dict[str, object] = {}

    def answer(self, **facts: object) -> None:
        self.said = facts

    def talk(self, line: str) -> None:
        here().log(f"{self.program}: {line}")

    def write(self, state: State, name: str, text: str, durable: bool = False) -> bool:
        return state.read(name) != text and (self.dry or state.write(name, text, durable))

    def remove(self, state: State, name: str, durable: bool = False) -> bool:
        return not self.dry and state.remove(name, durable)

    def wake(self, name: str) -> None:
        if not self.dry:
            self.run.flag(f"wake/{name}")


@functools.cache
def parse(program: str, argv: tuple[str, ...], purpose: str, arguments: Any, timeout: float) -> argparse.Namespace:
    """The real command line, parsed once for each way in which it is called."""
    command_line = cli.parser(program, purpose, timeout)
    if arguments:
        arguments(command_line)
    return command_line.parse_args(argv)


def start(program: str, purpose: str, work: cli.Work, arguments: Any = None, timeout: float = 30) -> int:
    """base/cli.py's start, without streams."""
    task = getcurrent()
    assert isinstance(task, Task)
    try:
        options = argparse.Namespace(**vars(parse(program, task.argv, purpose, arguments, timeout)))
    except SystemExit as ended:
        return int(str(ended.code))
    call = SimCall(program, options)
    try:
        return int(work(call))
    except Failure as failure:
        for line in str(failure).split("\n"):
            call.talk(line)
        return failure.status
    except OSError as error:
        call.talk(f"{error.filename or ''}: {error.strerror}")
        return Exit.UNAVAILABLE
    except (GreenletExit, Bug):
        raise
    except Exception as error:
        here().world.violated(f"{program}: bug: {type(error).__name__}: {error}", error)
        return Exit.BUG


class Time:
    """Instead of the module `time` in the commands."""

    @staticmethod
    def monotonic() -> float:
        return here().boottime()

    @staticmethod
    def time() -> float:
        return here().wall()

    @staticmethod
    def sleep(seconds: float) -> None:
        here().clock.sleep(seconds)


class Environment:
    """Instead of the module `os` in kc-vm-stop."""

    class environ:  # noqa: N801
        @staticmethod
        def get(name: str, default: str | None = None) -> str | None:
            task = getcurrent()
            assert isinstance(task, Task)
            return task.environment.get(name, default)


class Syslog:
    """Instead of the module `syslog`."""

    LOG_WARNING = LOG_PID = LOG_DAEMON = 0

    @staticmethod
    def openlog(*_: object) -> None:
        pass

    @staticmethod
    def syslog(_: int, line: str) -> None:
        here().log(f"kc-fence-peer: {line}")


def load(_: str) -> Config:
    return here().config


def load_vm(config: Config, name: str) -> Vm:
    found = here().vms.get(name)
    if found is None:
        raise Failure(Exit.CONFIG, f"{name}: there is no such VM")
    return found


def load_vms(_: Config) -> tuple[list[Vm], list[str]]:
    return sorted(here().vms.values(), key=lambda vm: (vm.order, vm.name)), []


def node_facts(place: Place) -> NodeFacts:
    """The real look, with one at what a command believes."""
    machine, task = here(), getcurrent()
    began = machine.clock.now
    machine.wakes.pop(getattr(task, "program", ""), None)
    facts = files.node_facts(place)
    machine.world.watch.tickets.believed(machine, facts, began)
    return facts


def read_kernel() -> dict[str, Drbd]:
    return here().kernel()


def reset(_: Doer) -> None:
    here().reset()


class Process:
    """vm_stop's look at a QEMU."""

    def __init__(self, _: object, name: str) -> None:
        self.guest = here().guests.get(name)

    def gone(self, seconds: float) -> bool:
        machine = here()
        end = machine.boottime() + seconds
        while self.guest is not None and machine.guests.get(self.guest.name) is self.guest:
            if machine.boottime() >= end:
                return False
            machine.clock.sleep(min(0.1, max(0.001, end - machine.boottime())))
        return True

    def kill(self) -> None:
        if self.guest:
            self.guest.end(137)


def tell(_: object, name: str, command: str) -> None:
    """vm_stop's word to a QEMU."""
    if guest := here().guests.get(name):
        guest.tell(command)


class Qmp:
    """kc-migrate's conversation with a QEMU."""

    def __init__(self, path: str, timeout: float) -> None:
        guest = here().guests.get(path.split("/")[-2])
        self.guest: Guest | None = guest
        if guest is None or guest.stopped or guest.status == "finish-migrate" and guest.asleep:
            here().clock.sleep(timeout if guest else 0.0)
            raise Failure(Exit.UNAVAILABLE, f"{path}: no answer")

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, command: str, **_: object) -> dict[str, object]:
        """As much of it as kc-migrate uses."""
        guest = self.guest
        assert guest
        if command == "query-status":
            return {"status": guest.status}
        if command == "query-migrate":
            return {"status": guest.sending} if guest.sending else {}
        actions: dict[str, Callable[[], object]] = {
            "migrate": guest.migrate, "migrate_cancel": guest.cancel, "cont": guest.cont,
            "quit": lambda: guest.tell("quit")}
        if command in actions:
            actions[command]()
        return {}


def on_signal(act: Callable[[], None]) -> None:
    """What kc-migrate does when it is signalled."""
    task = getcurrent()
    assert isinstance(task, Task)
    task.signalled = act


MODULES = (adjust, common, demote, failover, fence, fence_peer, migrate, outdate, promote, quorum, status, switch,
           vm_start, vm_stop, files, daemon, beat, room)
DOORS: dict[str, Any] = {
    "start": start, "time": Time, "syslog": Syslog, "load": load, "load_vm": load_vm, "load_vms": load_vms,
    "node_facts": node_facts, "reset": reset, "boottime": Time.monotonic, "digest": lambda config: "same",
    "notify": lambda message: None, "on_signal": on_signal, "Qmp": Qmp, "draw": lambda word: None,
}
ONLY_START: dict[str, Any] = {"boottime": lambda: here().now}  # a mark of its own, that no other look can meet
ONLY_STOP = {"Process": Process, "tell": tell, "os": Environment}


def open_curtain() -> None:
    """Put the doors in; for the life of this process."""
    for module in MODULES:
        special = ONLY_STOP if module is vm_stop else ONLY_START if module in (failover, room) else {}
        for name, door in {**DOORS, "Process": Process, **special}.items():
            if name in vars(module) and (name, module) != ("node_facts", files):
                setattr(module, name, door)
    kernel.read, kernel.memory, kernel.processors = read_kernel, lambda: here().memory, lambda: PROCESSORS
