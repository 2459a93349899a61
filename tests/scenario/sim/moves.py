"""What a search may do to the pair: every kind of fault, with its repair, as lines of the scenario language."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from tests.scenario.language import NETWORKS, NODES, load_all


@dataclass(frozen=True)
class Move:
    """A fault and what takes it back ("" where it mends itself)."""

    fault: str
    repair: str = ""


def _both(fault: str, repair: str = "") -> list[Move]:
    return [Move(fault.format(node=node), repair.format(node=node)) for node in NODES]


MOVES: list[Move] = [
    *_both("power off {node}", "power on {node}"),
    *_both("panic {node}"),
    *_both("hang {node}", "wake {node}"),
    Move("unplug node1 storage", "plug node1 storage"),
    *_both("drop {node} storage in", "pass {node} storage"),
    *_both("unplug {node} production", "plug {node} production"),
    *_both("drop {node} production in", "pass {node} production"),
    *_both("drop {node} production out", "pass {node} production"),
    *_both("delay {node} production 4", "pass {node} production"),
    *_both("delay {node} storage 4", "pass {node} storage"),
    Move("part production", "join production"),
    Move("switch off", "switch on"),
    Move("ping address off", "ping address on"),
    *_both("kill {node} kc-heartbeat"),
    *_both("stop {node} kc-heartbeat", "continue {node} kc-heartbeat"),
    *_both("kill {node} kc-fence-peer web1"),
    *_both("kill {node} qemu web1"),
    *_both("end {node} qemu web1", "type {node} kc-vm-start web1"),
    *_both("fail disk {node} web1", "replace disk {node} web1"),
    *_both("fill run {node}", "free run {node}"),
    *_both("type {node} kc-standby on", "type {node} kc-standby off"),
    Move("type node1 kc-maintenance on", "type node1 kc-maintenance off"),
    Move("type node2 kc-vm-stop web1", "type node2 kc-vm-start web1"),
    *_both("reboot {node}"),
    *_both("type {node} kc-migrate web1"),
]
PLANNED = [move for move in MOVES if move.fault.startswith(("type", "reboot"))]  # nothing fails
RARE: list[Move] = [
    *_both("clock {node} +3600", "clock {node} -3600"),
    *[Move(f"{verb} {node} {net}", f"pass {node} {net}")
      for verb in ("duplicate", "reorder") for node in NODES for net in NETWORKS],
]
# What breaks nothing by itself and makes other moments possible: a slow disk, words and writes that are late.
SLOW: list[Move] = [
    *_both("slow disk {node} 0.5", "quick disk {node}"),
    *_both("delay {node} production 0.4", "pass {node} production"),
    *_both("delay {node} storage 0.05", "pass {node} storage"),
]
PROGRAMS = ("kc-failover",) * 4 + ("kc-promote",) * 4 + ("kc-fence-peer",) * 3 + ("kc-heartbeat",) * 2 + ("kc-outdate",)
LOOKS = ("links", "wake/failover", *[f"{name}/web1" for name in (
    "drbd", "ahead", "even", "yields", "claim", "peer/drbd", "peer/ahead", "peer/yields", "peer/claim", "split-brain",
    "local/running", "pending")])
STALLS = (0.05, 0.3, 0.7, 1.2)
FROM_OUTSIDE = ("power on", "unplug", "plug", "drop", "pass", "delay", "replace", "duplicate", "reorder")
MOST_KILLS = 2  # the third failure of a QEMU in ten minutes is left to a person


class InForce:
    """Which faults stand, and so what may come next."""

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.kills = 0
        self.typed = False
        self.stopped = False  # did a person ever stop the guest, or it itself?
        self.replaced = False  # was a disk, with a fault still to come? One hole is left to a person (*20)

    def after(self, line: str) -> None:
        """That line was played."""
        self.typed |= line.startswith("type")
        self.stopped |= "kc-vm-stop" in line or line.startswith("end")
        self.replaced |= line.startswith("replace")
        self.kills += line.startswith("kill") and "qemu" in line
        self.moves = [move for move in self.moves if move.repair != line]
        self.moves += [move for move in [*MOVES, *RARE, *SLOW] if move.fault == line and move.repair]

    def possible(self, moves: list[Move]) -> list[str]:
        """Faults that do not stand, repairs of those that do; nothing is done to a machine without power."""
        standing = {move.fault for move in self.moves}
        off = {node for node in NODES if f"power off {node}" in standing}
        lines = [move.fault for move in moves if move.fault not in standing]
        lines += [move.repair for move in self.moves]
        return [line for line in dict.fromkeys(lines) if self._makes_sense(line, off)]

    def _makes_sense(self, line: str, off: set[str]) -> bool:
        if "qemu" in line and self.kills >= MOST_KILLS:
            return False
        return line.startswith(FROM_OUTSIDE) or not any(node in line for node in off)

    def repairs(self) -> list[str]:
        """What makes everything good, machines first."""
        last = sorted(self.moves, key=lambda move: ("disk" in move.fault, "power" not in move.fault))
        return [move.repair for move in last]


# Most of what goes wrong goes wrong where something has just changed: so many moments of change are waited for.
CHANGES = (1, 1, 2, 3, 4, 5, 7, 10, 14, 20)
AFTER = (0.0, 0.0, 0.0004, 0.02, 0.07, 0.3)
GAPS = (0.0, 0.01, 0.2, 0.6, 1.0, 1.7, 2.3, 3.1, 3.6, 4.5, 6.0, 9.0, 14.0)


@cache
def corpus() -> list[list[tuple[float, str]]]:
    """The faults of the scenario files, at the moments at which they happened there: people chose them well.

    The shortest first.
    """
    known = {line for move in [*MOVES, *RARE, *SLOW] for line in (move.fault, move.repair) if line}
    out = []
    for scenario in load_all("simulator"):
        steps, before = [], 0.0
        for match in re.finditer(r"^ *(\d+\.\d+)  \w+ +== (.*)$", scenario.timeline, re.MULTILINE):
            if match[2] in known:
                steps.append((round(float(match[1]) - before, 2), match[2]))
                before = float(match[1])
        if steps:
            out.append(steps)
    return sorted(out, key=len)


def vary(rng: random.Random, steps: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Something else at other moments: what people did not think of is often near what they did."""
    force, out = InForce(), []
    for gap, line in steps:
        if rng.random() < 0.12:
            continue
        if rng.random() < 0.25:
            gap = rng.choice(GAPS)
        elif rng.random() < 0.6:
            gap = max(0.0, gap + rng.uniform(-1, 1) * rng.choice((0.05, 0.5, 2.0)))
        possible = force.possible([*MOVES, *RARE, *SLOW])
        if rng.random() < 0.15:
            line = rng.choice(possible)
        if line in possible:
            out.append((round(gap, 3), line))
            force.after(line)
    if not out or rng.random() < 0.4:
        possible = force.possible(MOVES)
        same = [line for line in map(_mirrored, (line for _, line in out)) if line in possible]
        out.append((round(rng.choice(GAPS), 3), rng.choice(same if same and rng.random() < 0.4 else possible)))
    return out


def _mirrored(line: str) -> str:
    """The same on the other node: whatever happens, may happen to both."""
    one, two = NODES
    return line.replace(one, two) if one in line else line.replace(two, one)


class Draw(NamedTuple):
    """Wait so long, then for so many changes, then so long; then a fault or a repair."""

    gap: float
    changes: int
    after: float
    line: str


def aimed(rng: random.Random, most: int) -> list[Draw]:
    """A random sequence, most of it placed where something has just changed."""
    steps = [Draw(gap, 0, 0.0, line) for gap, line in draw(rng, most)]
    often = rng.choice((0.0, 0.5, 0.8, 1.0))
    for number in range(1, len(steps)):
        if rng.random() < often:
            gap = rng.choice((0.0, 0.0, 0.0, steps[number].gap))
            steps[number] = Draw(gap, rng.choice(CHANGES), rng.choice(AFTER), steps[number].line)
    return hampered(rng, steps)


def hampered(rng: random.Random, steps: list[Draw]) -> list[Draw]:
    """With slow disks from the beginning, or with commands that are kept waiting at one of their looks."""
    out = list(steps)
    for _ in range(rng.choice((0, 0, 1, 2))):
        stall = f"stall {rng.choice(NODES)} {rng.choice(PROGRAMS)} {rng.choice(LOOKS)} {rng.choice(STALLS)}"
        number = rng.randrange(len(out))
        out.insert(number, out[number]._replace(line=stall))
        out[number + 1] = Draw(rng.choice((0.0, 0.0, 0.1, 0.4, 1.0)), 0, 0.0, out[number + 1].line)
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        out.insert(0, Draw(0.0, 0, 0.0, rng.choice(SLOW).fault))
    return out


def draw(rng: random.Random, most: int) -> list[tuple[float, str]]:
    """A random sequence of faults and repairs, with the seconds before each."""
    planned = rng.random() < 0.15
    if not planned and rng.random() < 0.6:
        return vary(rng, rng.choice(corpus()))
    force, out = InForce(), []
    for _ in range(rng.randint(1, most)):
        pool = PLANNED if planned else MOVES if rng.random() < 0.95 else RARE
        repairs = [move.repair for move in force.moves]
        line = rng.choice(repairs) if repairs and rng.random() < 0.35 else rng.choice(force.possible(pool))
        gap = rng.choice(GAPS) + rng.random() * rng.choice((0.0, 0.1, 0.5, 2.0))
        out.append((round(gap, 3), line))
        force.after(line)
    return out
