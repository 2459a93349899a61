"""The simulated pair: both machines, what lies between them, their faults, and what is true of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent

from kisscluster.base.config import Config, Node, Vm
from kisscluster.base.exits import Exit
from kisscluster.base.run import Ended
from kisscluster.commands.common import place_of
from kisscluster.commands.status import gather
from kisscluster.see import daemon
from tests.lab.pair import PRODUCTION, STORAGE, SWITCH
from tests.scenario.language import NETWORKS, NODES
from tests.scenario.sim import stage
from tests.scenario.sim.calm import Calm
from tests.scenario.sim.clock import Clock, Task
from tests.scenario.sim.disks import Mirror, Side
from tests.scenario.sim.disks import Pace as DiskPace
from tests.scenario.sim.judge import Judge
from tests.scenario.sim.machine import Machine
from tests.scenario.sim.watch import Watch
from tests.scenario.sim.windows import Record
from tests.scenario.sim.wires import Wires

HOMES = {"web1": "node1", "web2": "node2"}
SILENT = ("alive", "wake", "plan")  # files whose change tells nothing new
SETTINGS = {"interval": 0.5, "deadtime": 3.0, "settle": 30.0, "failback_after": 600.0}


@dataclass
class Pace:
    """How long things take on a machine, in seconds; `spread` above 1 draws them, up to so many times as long."""

    rng: random.Random
    spread: float = 1.0
    command: float = 0.06
    program: float = 0.03
    guest: float = 0.4
    memory: float = 4.0  # a guest's memory over the storage cable
    last: float = 0.1  # and what is left of it once the guest stands still
    boot: float = 5.0
    sync: float = 0.005
    fencing: float = 1.0
    disks: DiskPace = field(default_factory=DiskPace)

    def start(self) -> float:
        """A command of ours, until it does something."""
        return self.command * (self.rng.uniform(1, self.spread) if self.spread > 1 else 1)

    def tool(self) -> float:
        """drbdadm or systemctl."""
        return self.program * (self.rng.uniform(1, self.spread) if self.spread > 1 else 1)


class World:
    """A pair, from healthy on."""

    def __init__(self, settings: dict[str, str] | None = None, vms: tuple[str, ...] = ("web1", "web2"),
                 vm_settings: dict[str, dict[str, str]] | None = None, fences: dict[str, str] | None = None,
                 seed: int = 0, pace: Callable[[random.Random], Pace] = Pace) -> None:
        stage.open_curtain()
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.pace = pace(self.rng)
        self.lines: list[tuple[float, str, str]] = []
        self.changes = 0  # of state files, decisions, disks and guests, on both nodes
        self.judge = Judge(self)
        self.watch = Watch(self)
        self.calm = Calm(self)
        self.obedient = False  # do guests obey the power button?
        self.interrupted: float = 0.0  # how often another process comes between two looks at files
        # (node, program, file): which look there, the how manyth from now on, takes how long
        self.stalls: dict[tuple[str, str, str], tuple[int, float]] = {}
        self.held = 0.0  # until when a command is kept standing still
        self.record = Record(self.seen)
        self.fences = fences or {}  # node: works or broken, which is its fence command, too
        self.wires = Wires(self.clock, self.rng, self._answers)
        self.mirrors = {name: Mirror(name, self.clock, self.rng, self.pace.disks,
                                     self.wires.drbd_lives, _task) for name in vms}
        for mirror in self.mirrors.values():
            mirror.late = lambda: self.wires.delayed("storage")
            mirror.changed, mirror.handler, mirror.acknowledged = self._disk_changed, self._handler, self.judge.write
        self.machines: dict[str, Machine] = {}
        for name in NODES:
            self.machines[name] = Machine(self, name, config(name, settings or {}, self.fences), {
                vm: definition(vm, (vm_settings or {}).get(vm, {})) for vm in vms})
        self.words: dict[tuple[str, str], str] = {}
        self.started = self.stagger = 0.0

    def fast(self) -> None:
        """For searches: what the datagrams say, without writing and checking them."""
        vars(daemon)["seal"] = lambda key, payload: payload
        vars(daemon)["unseal"] = lambda key, datagram: datagram

    # Time

    @property
    def now(self) -> float:
        """Seconds since the scenario began."""
        return self.clock.now - self.started

    def run(self, seconds: float) -> None:
        self.clock.run(self.clock.now + seconds)

    def step(self, seconds: float) -> None:
        """At most so long, until the next moment in which anything happens."""
        self.clock.step(self.clock.now + seconds)

    def begin(self, patience: float = 120.0) -> None:
        """Boot both and wait until all is well; the scenario's clock starts then."""
        for machine in self.machines.values():
            machine.boot()
            if self.stagger:
                self.run(self.stagger)
        end = self.clock.now + patience
        while not self.ready():
            self.run(0.25)
            if self.clock.now > end:
                raise AssertionError("the pair never became healthy:\n" + self.timeline())
        self.run(6.0 - self.clock.now % 5.0)
        self.lines.clear()
        self.started = self.clock.now
        self.judge.begin()
        self.calm.begin()

    def ready(self) -> bool:
        """Healthy, at home, and steady, both copies known to be even."""
        return (all(machine.units.target and machine.daemon and "steady=yes" in (machine.run.read("links") or "")
                    and all(machine.run.has(f"even/{vm}") for vm in self.mirrors) for machine in self.machines.values())
                and all(vm in self.machines[HOMES[vm]].guests for vm in self.mirrors) and self.mirrored())

    def between(self, name: str) -> None:
        """Where another process may come between: where this look was waited for, else now and then."""
        task = getcurrent() if self.stalls or self.interrupted or self.record.on else None
        if not isinstance(task, Task) or task.gone:
            return  # what follows the end of a process is no look of its own
        key = task.owner.name, task.program, name
        self.record.look(self.now, *key, task)
        number, seconds = self.stalls.pop(key, (1, 0.0))
        if number > 1:
            self.stalls[key], seconds = (number - 1, seconds), 0.0
        if self.interrupted and self.rng.random() < self.interrupted:
            seconds += self.rng.choice((0.001, 0.05, 0.3, 1.2))
        if seconds:
            self.held = max(self.held, self.now + seconds)
            self.clock.sleep(seconds)
            if task.program == "kc-heartbeat" and seconds > 1:
                self.watch.sound.pop(task.owner.name, None)  # it stood still, and says so

    def seen(self, node: str) -> str:
        """Whom that node hears."""
        return (self.machines[node].run.peek("links") or "").partition(" unbroken")[0]

    def deed(self, machine: Machine) -> None:
        """One of its commands changes something, right after its last look."""
        task = getcurrent()
        if isinstance(task, Task) and task.owner is machine:
            self.record.deed(task)

    def _answers(self, node: str) -> bool:
        machine = self.machines[node]
        return machine.on and machine.answers_pings and not machine.life.hung

    def token(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"

    # What is told

    def log(self, node: str, line: str) -> None:
        self.lines.append((self.now, node, line))
        self.changes += 1

    def timeline(self) -> str:
        return "\n".join(f"{time:8.2f}  {node:6} {line}" for time, node, line in self.lines)

    def violated(self, what: str, cause: BaseException | None = None) -> None:
        self.judge.violated(what, cause)

    def fact_changed(self, machine: Machine, name: str) -> None:
        """State files that a reader of the story wants to see."""
        top = name.split("/")[0]
        self.changes += top not in SILENT
        self.deed(machine)
        store = machine.var if name.startswith("/var/") else machine.run
        value = store.peek(name.removeprefix("/var/"))
        if top == "links":
            self._tell(machine, name, f"sees {value}" if value is not None else "kc-heartbeat says nothing any more")
        elif name.startswith(("/var/ahead", "/var/split-brain")):
            _, _, mark, vm = name.split("/")
            self.log(machine.name, f"{vm}: {'is' if value is not None else 'no longer'} {mark}")
            if mark == "ahead" and vm in self.mirrors:
                told = self.judge.unmarked if value is None else self.judge.marked
                told(self.mirrors[vm].sides[machine.name])
        elif top == "yields":
            self.log(machine.name, f"{name.split('/')[1]}: {'gives' if value is not None else 'takes back'} its word")

    def _tell(self, machine: Machine, name: str, line: str) -> None:
        if self.words.get((machine.name, name)) != line:
            self.words[machine.name, name] = line
            self.log(machine.name, line)

    def _disk_changed(self, side: Side) -> None:
        word = side.word()
        if word and word.primary:
            self.judge.kept.discard((side.mirror.name, side.node))
        self._tell(self.machines[side.node], f"disk/{side.mirror.name}", f"{side.mirror.name}: disk {word}")

    def _handler(self, side: Side, name: str, done: Callable[[int], object]) -> None:
        self.machines[side.node].handler(side, name, done)

    def rechecked(self) -> None:
        """Who reaches whom has changed."""
        for mirror in self.mirrors.values():
            mirror.recheck()

    def ended(self, machine: Machine, key: str, status: int | None) -> None:
        """A unit's command ended."""
        if not self.judge.excused:
            self.watch.tickets.marks()
        program, _, vm = key.partition(" ")
        done = program == "kc-outdate" and status == 0
        if done and self.clock.now - self.mirrors[vm].sides[machine.name].outdated > 5:
            self.violated(f"{machine.name}: kc-outdate says that {vm} is outdated, and it is not")
        if status in (Exit.BUG, Exit.USAGE):
            self.violated(f"{machine.name}: {key} ended with {status}")

    def fence(self, machine: Machine, command: str) -> Ended:
        """The fence command of the peer: its power is cut, unless the command cannot."""
        self.clock.sleep(self.pace.fencing)
        if command != "works":
            return Ended(1, "", "no answer from the power strip")
        self.clock.after(0, None, self.machines[machine.peer].off, "is switched off by its peer")
        self.clock.sleep(0.01)
        return Ended(0, "", "")

    # What is true

    def status(self, node: str) -> dict[str, Any]:
        """kc-status --json, as it would answer now."""
        found: dict[str, Any] = self.inside(node, lambda call: gather(call, place_of(call)))
        return found

    def inside(self, node: str, question: Callable[[stage.SimCall], Any]) -> Any:
        """Ask the commands' own code on that machine, in no time."""
        found: list[Any] = []

        def look() -> None:
            found.append(question(stage.SimCall("kc-status", stage.parse("kc-status", (), "", None, 30))))
        kept, self.interrupted = self.interrupted, 0.0
        task = Task(self.clock, self.machines[node].life, look, lambda _: None)
        task.owner = self.machines[node]
        task.resume(None)
        self.interrupted = kept
        return found[0]

    @staticmethod
    def home(vm: str) -> str:
        return HOMES[vm]

    def all_run(self) -> bool:
        """Does every guest run on exactly one node?"""
        return all(sum(vm in machine.guests for machine in self.machines.values() if machine.on) == 1
                   for vm in self.mirrors)

    def nobody_can_tell(self) -> bool:
        """The one double fault of DESIGN 3: both run and reach the switch, and neither can hear the other."""
        running = all(machine.on and not machine.life.hung for machine in self.machines.values())
        apart = not any(map(self.wires.hear_each_other, NETWORKS))
        return running and apart and all(self.wires.answered_in_time(node) for node in NODES)

    def mirrored(self) -> bool:
        """Do both nodes say that all copies are the same?"""
        words = [side.word() for mirror in self.mirrors.values() for side in mirror.sides.values()]
        return all(word and word.even for word in words)

    def healthy(self) -> bool:
        """kc-status is content on both nodes, every disk mirrored, every guest on one node."""
        if not self.mirrored():
            return False
        if any(not machine.on or machine.life.hung or machine.daemon is None for machine in self.machines.values()):
            return False
        return all(self.status(node)["healthy"] for node in NODES)


def _task() -> Task:
    task = getcurrent()
    assert isinstance(task, Task)
    return task


def config(me: str, settings: dict[str, str], fences: dict[str, str]) -> Config:
    """kisscluster.conf of a node."""
    numbers = {key: float(settings.get(key, value)) for key, value in SETTINGS.items()}
    nodes = tuple(Node(name, PRODUCTION[name], STORAGE[name], fences.get(name, "")) for name in NODES)
    first, second = nodes
    mine, peers = (first, second) if me == NODES[0] else (second, first)
    return Config("/etc/kisscluster/kisscluster.conf", "lab", SWITCH, 5324, numbers["interval"], numbers["deadtime"],
                  numbers["settle"], settings.get("failback", "migrate"), numbers["failback_after"], (first, second),
                  mine, peers, int(settings.get("reserve", 256)), float(settings.get("pause", 0)))


def definition(name: str, settings: dict[str, str]) -> Vm:
    """vm/NAME.conf."""
    return Vm(name, HOMES[name], int(settings.get("memory", 32)), 1, ("br0",), ("02:00:00:00:00:01",),
              int(settings.get("order", 50)), float(settings.get("stop_timeout", 120)), "ide", "tcg", "", "utc", "")
