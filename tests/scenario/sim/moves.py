"""What a search may do to the pair: every kind of fault, with its repair, as lines of the scenario language."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.scenario.language import NETWORKS, NODES


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
    Move("switch off", "switch on"),
    Move("ping address off", "ping address on"),
    *_both("kill {node} kc-heartbeat"),
    *_both("stop {node} kc-heartbeat", "continue {node} kc-heartbeat"),
    *_both("kill {node} kc-fence-peer web1"),
    *_both("kill {node} qemu web1"),
    *_both("fail disk {node} web1", "replace disk {node} web1"),
    *_both("fill run {node}", "free run {node}"),
    *_both("type {node} kc-standby on", "type {node} kc-standby off"),
    Move("type node1 kc-maintenance on", "type node1 kc-maintenance off"),
    Move("type node2 kc-vm-stop web1", "type node2 kc-vm-start web1"),
    *_both("reboot {node}"),
]
RARE: list[Move] = [
    *_both("clock {node} +3600", "clock {node} -3600"),
    *[Move(f"{verb} {node} {net}", f"pass {node} {net}")
      for verb in ("duplicate", "reorder") for node in NODES for net in NETWORKS],
]
MOST_KILLS = 2  # the third failure of a QEMU in ten minutes is left to a person


class InForce:
    """Which faults stand, and so what may come next."""

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.kills = 0

    def after(self, line: str) -> None:
        """That line was played."""
        self.kills += line.startswith("kill") and "qemu" in line
        self.moves = [move for move in self.moves if move.repair != line]
        self.moves += [move for move in [*MOVES, *RARE] if move.fault == line and move.repair]

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
        local = not line.startswith(("power on", "unplug", "plug", "drop", "pass", "delay", "replace", "duplicate", "reorder"))
        return not (local and any(node in line for node in off))

    def repairs(self) -> list[str]:
        """What makes everything good, machines first."""
        return [move.repair for move in sorted(self.moves, key=lambda move: ("disk" in move.fault, "power" not in move.fault))]


GAPS = (0.0, 0.01, 0.2, 0.6, 1.0, 1.7, 2.3, 3.1, 3.6, 4.5, 6.0, 9.0, 14.0)


def draw(rng: random.Random, most: int) -> list[tuple[float, str]]:
    """A random sequence of faults and repairs, with the seconds before each."""
    force, out = InForce(), []
    for _ in range(rng.randint(1, most)):
        pool = MOVES if rng.random() < 0.95 else RARE
        repairs = [move.repair for move in force.moves]
        line = rng.choice(repairs) if repairs and rng.random() < 0.35 else rng.choice(force.possible(pool))
        gap = rng.choice(GAPS) + rng.random() * rng.choice((0.0, 0.1, 0.5, 2.0))
        out.append((round(gap, 3), line))
        force.after(line)
    return out
