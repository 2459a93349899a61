"""One run of a search: faults and repairs on a healthy pair, then everything is repaired and must heal."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

from tests.scenario.language import NODES, parse_step
from tests.scenario.sim import faults
from tests.scenario.sim.forks import apart
from tests.scenario.sim.moves import Draw, InForce
from tests.scenario.sim.stage import PROGRAMS
from tests.scenario.sim.watch import EVERY
from tests.scenario.sim.windows import Strike, Window
from tests.scenario.sim.world import World

PATIENCE = 12.0  # seconds; where nothing changes any more, the next fault comes
HEAL = 150.0  # seconds until a repaired pair must be healthy: a boot, a reset, a boot
SOON = 8.0  # seconds after the last repair in which most of what breaks has broken
AFTERWARDS = 10.0  # seconds after the last fault in which a run is still watched
CHANGED = 3.0  # seconds in which the quickest person changes a disk that failed
SETTLED = 25.0  # seconds without a fault after which a guest that could run safely must run


@dataclass
class Found:
    """What went wrong, and how to see it again."""

    what: str
    steps: list[tuple[float, str]]
    base: int
    seed: int
    lag: float
    timeline: str = ""


Watched = tuple[Found | None, list[tuple[float, str]], list[Window]]


def bases(count: int) -> list[World]:
    """Healthy pairs whose programs are in different phases."""
    return [healthy(number) for number in range(count)]


def healthy(number: int) -> World:
    """A healthy pair with one guest at home on node1; the same number gives the same pair."""
    world = World({"settle": "2", "interval": "0.5"}, vms=("web1",), vm_settings={"web1": {"stop_timeout": "1"}},
                  seed=number)
    world.fast()
    world.stagger = (number * 0.618) % 1 * 5
    world.begin()
    return world


def disturb(world: World, seed: int, lag: float) -> None:
    """From here on everything takes as long as it likes; `lag` 0 is the nominal pace."""
    rng = world.rng
    rng.seed(seed)
    pace = world.pace
    world.watch.strict = world.calm.strict = lag == 0
    if lag > 0:
        pace.spread = 1 + rng.choice((0.0, 3.0, 15.0)) * lag
        pace.sync = rng.choice((0.0, 0.01, 0.5, 2.0)) * lag
        for machine in world.machines.values():
            machine.var.sync_seconds = pace.sync
        pace.disks.notice = (0.6, 2.5)
        pace.disks.seek = (0.1, 1.2)
        pace.disks.message = rng.choice((0.0005, 0.0005, 0.3))
        pace.disks.resync = rng.choice((0.1, 1.0, 6.0))
        pace.boot = rng.choice((2.0, 5.0, 9.0))
        world.wires.lag = rng.choice((0.0, 0.005, 0.3)) * lag
        world.interrupted = rng.choice((0.0, 0.0, 0.02)) * lag
    pass_time(world, 0.2 + rng.random() * 5)


class Run:
    """The faults of one run, as far as it has been played."""

    def __init__(self, world: World, seed: int, lag: float, base: int) -> None:
        disturb(world, seed, lag)
        self.world, self.force, self.seed, self.lag, self.base = world, InForce(), seed, lag, base
        self.began = self.before = self.failed = world.now
        self.played: list[tuple[float, str]] = []  # with the seconds that passed before each

    def play(self, steps: list[Draw]) -> None:
        """Stops at the first violation."""
        world = self.world
        for gap, changes, after, line in steps:
            pass_time(world, self.before + gap - world.now if not changes else gap)
            for _ in range(changes):
                until_change(world)
            pass_time(world, after)
            if line.startswith("replace"):
                pass_time(world, self.failed + CHANGED - world.now)
            if world.judge.found:
                break
            if hopeless(world, line):
                continue
            self.played.append((world.now - self.before, line))
            self.before = world.now
            if line.startswith("fail disk"):
                self.failed = world.now
            one(world, line)
            self.force.after(line)

    def end(self, soon: bool = False) -> Found | None:
        """Everything is repaired, and must heal."""
        world = self.world
        if not world.judge.found and random.Random(self.seed).random() < 0.3:
            pass_time(world, SETTLED)
        if not world.judge.found:
            heal(world, self.force, soon)
        found = world.judge.found
        return Found(found[0], self.played, self.base, self.seed, self.lag, world.timeline()) if found else None


def until_change(world: World) -> None:
    """Until something has just changed in a state file, a decision, a disk or a guest."""
    end, changes = world.now + PATIENCE, world.changes
    while world.changes == changes and world.now < end and not world.judge.found:
        look = world.now + EVERY
        while world.changes == changes and world.now < look - 1e-6:
            world.step(look - world.now)
        world.watch.look()


def hopeless(world: World, line: str) -> bool:
    """What only one disk has, its end takes away: nothing to be promised. Who hangs does not notice his disk."""
    if not line.startswith("fail disk"):
        return False
    node = line.split()[2]
    mirror = world.mirrors["web1"]
    other = mirror.sides[node].peer
    word = other.word()
    good = word is not None and word.disk == "UpToDate" and not other.broken
    deaf = world.machines[node].life.hung and other.linked_to is not None
    return deaf or not (good and mirror.sides[node].linked_to is other and mirror.path())


def one(world: World, line: str) -> None:
    """One fault or repair, not waited for."""
    step = parse_step(line)
    if step.verb == "type":
        machine = world.machines[step.words[0]]
        argv = tuple(step.words[2].split())
        assert argv[0] in PROGRAMS
        world.log(machine.name, f"== {line}")
        if machine.on:
            machine.program(argv, lambda _: None)
    else:
        faults.do(world, step)


def pass_time(world: World, seconds: float) -> None:
    """Time passes, and what must come true in time is looked at."""
    end = world.now + seconds
    while world.now < end - 1e-6 and not world.judge.found:
        world.run(min(EVERY, end - world.now))
        world.watch.look()
    world.run(0)


def heal(world: World, force: InForce, soon: bool = False) -> None:
    """Everything is repaired; the pair must become healthy by itself, or (`soon`) nothing must break at once."""
    pass_time(world, 2.0)
    for line in force.repairs():
        if not line.startswith("type"):
            # nobody opens a machine whose peer is booting
            pass_time(world, 12.0 if line.startswith("replace") else 0.3)
            one(world, line)
    if soon:
        pass_time(world, SOON)
        return
    if force.typed or force.stopped or not world.all_run():
        _take_back(world, force)
    end = world.now + HEAL
    while not world.judge.found and not (world.healthy() and world.all_run()):
        pass_time(world, 1.0)
        for mirror in world.mirrors.values():
            for side in mirror.sides.values():
                if not side.broken:
                    side.reattach()  # as `drbdadm adjust` after the disk was changed
        if world.now > end:
            told = problems(world)
            if not world.judge.excused and not (force.replaced and "until a human chooses" in told):
                world.violated(f"not healthy {HEAL:g} s after the last repair: {told}")
            return
    for mirror in world.mirrors.values():
        for side in mirror.sides.values():
            if not world.judge.found and not mirror.history.contains(side.content, mirror.history.acknowledged):
                world.violated(f"{mirror.name}: {side.node} lacks an acknowledged write")


def _take_back(world: World, force: InForce) -> None:
    """A person takes back what was typed, as often as it takes; a guest that nobody stopped must start by itself."""
    pass_time(world, 15.0)
    commands = [f"{node} kc-standby off" for node in NODES] + ["node1 kc-maintenance off"]
    failed = [machine.on and machine.run.peek("local/failed/web1") is not None for machine in world.machines.values()]
    if force.stopped or any(failed):
        commands.append("node1 kc-vm-start web1")
    for command in commands:
        node, *argv = command.split()
        for _ in range(5):
            if world.judge.found or faults.typed(world, world.machines[node], tuple(argv), 40.0) == 0:
                break
            pass_time(world, 3.0)


def problems(world: World) -> str:
    """What kc-status says."""
    told = [f"{node}: {item['text']}" for node in NODES if world.machines[node].on
            for item in world.status(node)["problems"]]
    return "; ".join(told) or "kc-status is content"


def attempt(world: World, steps: list[Draw], seed: int, lag: float, base: int) -> Found | None:
    """A whole run; the world is used up."""
    run = Run(world, seed, lag, base)
    run.play(steps)
    pass_time(world, 0.0)
    return run.end()


def watched(world: World, steps: list[Draw], seed: int, lag: float, base: int) -> Watched:
    """A whole run, and what its commands did until so many seconds after its last fault."""
    run = Run(world, seed, lag, base)
    world.record.on = True
    run.play(steps)
    pass_time(world, AFTERWARDS)
    world.record.on = False
    return run.end(), run.played, world.record.windows(run.began, random.Random(seed))


def struck(world: World, played: list[tuple[float, str]], strikes: list[Strike], seed: int, lag: float, base: int
           ) -> tuple[int, Found | None]:
    """The same run once more, left for another one at each of these moments; how many, and the first that broke."""
    run, rest = Run(world, seed, lag, base), list(played)
    for number, strike in enumerate(sorted(strikes, key=lambda strike: strike.time), 1):
        until = run.began + strike.time
        while rest and run.before + rest[0][0] <= until:
            gap, line = rest.pop(0)
            run.play([Draw(gap, 0, 0.0, line)])
        pass_time(world, until - world.now)
        found: Found | None = apart(partial(_left, run, strike))
        if found:
            return number, found
    return len(strikes), None


def _left(run: Run, strike: Strike) -> Found | None:
    first, *others = strike.steps
    run.play([first._replace(gap=run.world.now - run.before), *others])
    return run.end(not strike.whole)
