"""Walk every sequence of up to so many faults and repairs, each at every moment at which something changed.

    python3 -m tests.scenario.walk --depth 2 --seconds 1800

A tree of forks: the common beginning of two sequences is run once. States that were met before, with as much still to
come, are not walked again.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import pickle
import sys
import time
from dataclasses import dataclass
from functools import partial

from tests.scenario.search import scenario
from tests.scenario.sim.forks import apart
from tests.scenario.sim.moves import MOVES, InForce
from tests.scenario.sim.trial import Found, heal, healthy, hopeless, one, pass_time
from tests.scenario.sim.watch import EVERY
from tests.scenario.sim.world import World

HORIZON = 12.0  # seconds after the last fault; what has not happened by then waits for the next one
SLOTS = 1 << 22


@dataclass
class Tally:
    """What a branch of the tree brings back."""

    runs: int
    found: list[Found]


class Seen:
    """The digests of the states that were met, in memory that all forks share."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, SLOTS * 8)

    def add(self, digest: bytes) -> bool:
        """True where it is new."""
        slot = int.from_bytes(digest[:4], "big") % SLOTS
        for _ in range(32):
            there = self.memory[slot * 8:slot * 8 + 8]
            if there == digest:
                return False
            if there == bytes(8):
                self.memory[slot * 8:slot * 8 + 8] = digest
                return True
            slot = (slot + 1) % SLOTS
        return True


def signature(world: World) -> str:
    """Everything that what follows can depend on, ages to half a second."""
    ports = [(key, port.carrier, port.lost_in, port.lost_out, port.delay) for key, port in world.wires.ports.items()]
    parts = [repr(sorted(ports)), repr((world.wires.switch, world.wires.ping_address))]
    for name, machine in world.machines.items():
        parts.append(f"{name} {machine.on} {machine.life.hung}")
        parts.append(repr(sorted(machine.var.everything().items())))
        if machine.on:
            facts = {key: value for key, value in machine.run.everything().items() if key not in ("alive", "peer/boot")}
            units = [(vm, unit.state, machine.units.disk[vm].state) for vm, unit in machine.units.vm.items()]
            parts += [repr(sorted(facts.items())), repr(units), repr(sorted(machine.units.running))]
            parts.append(_ages(world, machine.daemon))
        for side in machine.sides():
            meta = side.meta
            flags = meta.bitmap != 0, meta.primary, meta.peer_outdated, len(side.unacknowledged)
            parts.append(f"{side.word()} {flags}")
    for mirror in world.mirrors.values():
        contents = [side.content for side in mirror.sides.values()]
        newest = [mirror.history.contains(content, mirror.history.acknowledged) for content in contents]
        parts.append(f"{contents[0] == contents[1]} {newest}")
    return "\n".join(parts)


def _ages(world: World, daemon: object) -> str:
    heart = getattr(daemon, "heart", None)
    if heart is None:
        return "no heart"
    times = [path.heard_at for path in heart.paths.values()] + [heart.switch.answered, heart.spoken]
    return repr([None if at is None else min(9.0, round((world.clock.now - at) * 2) / 2) for at in times])


class Walk:
    """The tree below a healthy pair."""

    def __init__(self, depth: int, end: float, seen: Seen, part: int, parts: int) -> None:
        self.depth, self.end, self.seen, self.part, self.parts = depth, end, seen, part, parts

    def below(self, world: World, force: InForce, steps: list[tuple[float, str]], left: int) -> Tally:
        """At every moment from now on at which something changed: every next fault or repair."""
        tally, gap, changes = Tally(0, []), 0.0, -1
        while gap <= HORIZON and not world.judge.found and time.monotonic() < self.end:
            if world.changes != changes:
                changes = world.changes
                share = self.part if left == self.depth else ""  # the first fault is another one in each process
                state = f"{left} {share}\n{signature(world)}".encode()
                if self.seen.add(hashlib.blake2b(state, digest_size=8).digest()):
                    self._branch(world, force, steps, left, gap, tally)
            if gap >= HORIZON:
                break
            pass_time(world, EVERY)
            gap = round(gap + EVERY, 3)
        return tally

    def _branch(self, world: World, force: InForce, steps: list[tuple[float, str]], left: int, gap: float, tally: Tally
                ) -> None:
        for number, line in enumerate(force.possible(MOVES)):
            if left == self.depth and number % self.parts != self.part or hopeless(world, line):
                continue
            if time.monotonic() >= self.end:
                return
            got: Tally = apart(partial(self._next, world, force, [*steps, (gap, line)], left))
            tally.runs += got.runs
            tally.found += got.found

    def _next(self, world: World, force: InForce, steps: list[tuple[float, str]], left: int) -> Tally:
        """In a fork: play one more line; the end of this sequence in a fork of its own, then what may follow."""
        line = steps[-1][1]
        one(world, line)
        force.after(line)
        pass_time(world, 0.0)
        tally = Tally(1, [])
        if ended := apart(lambda: self._ended(world, force, steps)):
            tally.found.append(ended)
            print(scenario(ended), flush=True)
        elif left > 1:
            more = self.below(world, force, steps, left - 1)
            tally.runs += more.runs
            tally.found += more.found
        return tally

    @staticmethod
    def _ended(world: World, force: InForce, steps: list[tuple[float, str]]) -> Found | None:
        pass_time(world, HORIZON)
        if not world.judge.found:
            heal(world, force)
        if world.judge.found:
            return Found(world.judge.found[0], steps, 0, 0, 0.0, world.timeline())
        return None


def worker(depth: int, end: float, seen: Seen, part: int, parts: int) -> Tally:
    """Every so-many-th first fault."""
    world = healthy(0)
    world.watch.strict = True
    pass_time(world, EVERY)
    return Walk(depth, end, seen, part, parts).below(world, InForce(), [], depth)


def main() -> int:
    command_line = argparse.ArgumentParser(description=__doc__)
    command_line.add_argument("--depth", type=int, default=2)
    command_line.add_argument("--seconds", type=float, default=1800)
    command_line.add_argument("--processes", type=int, default=2)
    options = command_line.parse_args()
    seen, end, started = Seen(), time.monotonic() + options.seconds, time.monotonic()
    tallies: list[Tally] = []
    pipes = []
    for part in range(options.processes):
        read, write = os.pipe()
        if os.fork() == 0:
            with os.fdopen(write, "wb") as stream:
                pickle.dump(worker(options.depth, end, seen, part, options.processes), stream)
            os._exit(0)
        os.close(write)
        pipes.append(read)
    for read in pipes:
        with os.fdopen(read, "rb") as stream:
            tallies.append(pickle.load(stream))
        os.wait()
    found = [one for tally in tallies for one in tally.found]
    whole = "all of them" if time.monotonic() < end else "not all: time was over"
    runs, seconds = sum(tally.runs for tally in tallies), time.monotonic() - started
    print(f"{runs} sequences of up to {options.depth} in {seconds:.0f} s ({whole}), {len(found)} findings")
    return 1 if found else 0

if __name__ == "__main__":
    sys.exit(main())
