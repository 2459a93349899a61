"""make demo: two machines, two guests, one power loss; second by second, until all is as it was."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.lab import package, virtual
from tests.lab.pair import NODES, VMS, other
from tests.lab.virtual import VirtualPair

VICTIM = "node1"
UNITS = [f"kc-{kind}@{vm}" for vm in VMS for kind in ("promote", "vm")]
LOOK = f"cat /run/kisscluster/decision; echo; cat /proc/drbd; systemctl is-active {' '.join(UNITS)}"
FAILOVER, RETURN = 60.0, 150.0


class Demo:
    """The story of one power loss, told while it happens."""

    def __init__(self, nodes: VirtualPair) -> None:
        self.nodes = nodes
        self.moment = time.monotonic()
        self.counted = dict.fromkeys(VMS, 0)
        self.told: dict[str, str] = {}

    def begin(self, headline: str) -> None:
        """A new chapter, with a clock of its own."""
        print(f"\n== {headline}", flush=True)
        self.moment = time.monotonic()
        self.told.clear()

    def second(self, node: str) -> None:
        """What a node decided and where the guests counted in the last second; then what changed for a guest there."""
        decision, states = _look(self.nodes, node)
        counts = "   ".join(f"{vm} {self._dots(vm)}" for vm in VMS)
        print(f"+{time.monotonic() - self.moment:4.0f} s  {node} decides {decision:5} {counts}")
        for vm, state in states.items():
            if self.told.get(vm) != state:
                self.told[vm] = state
                print(f"           {vm}: {state}")
        sys.stdout.flush()

    def _dots(self, vm: str) -> str:
        dots = self.nodes.dots(vm).all()
        new, self.counted[vm] = dots[self.counted[vm]:], len(dots)
        return f"{'.' * min(len(new), 12):12} {new[-1].node if new else 'silent':6}"

    def until(self, node: str, happened: list[str], timeout: float) -> None:
        """Tell every second what a node sees, until nothing is left to happen."""
        while self.missing(happened):
            if time.monotonic() > self.moment + timeout:
                raise AssertionError(f"not within {timeout:g} s: {', '.join(self.missing(happened))}")
            start = time.monotonic()
            self.second(node)
            time.sleep(max(0.0, start + 1 - time.monotonic()))
        print(f"   after {time.monotonic() - self.moment:.1f} s: {', '.join(happened)}", flush=True)

    def missing(self, wanted: list[str]) -> list[str]:
        """Which of these is not so yet."""
        return [text for text in wanted if not self._is(text)]

    def _is(self, text: str) -> bool:
        subject, _, rest = text.partition(" ")
        if subject in VMS:
            return virtual.counts(self.nodes, subject, rest.split()[-1])
        if rest == "is steady":
            return virtual.is_steady(self.nodes, subject)
        return virtual.all_up_to_date(self.nodes, subject)


def _look(nodes: VirtualPair, node: str) -> tuple[str, dict[str, str]]:
    try:
        lines = nodes.machines[node].run(LOOK, 5).stdout.splitlines()
    except subprocess.TimeoutExpired:
        return "?", {}
    units = lines[-len(UNITS):]
    if len(lines) < len(UNITS):
        return "?", {}
    states = {}
    for position, (vm, facts) in enumerate(VMS.items()):
        promote, running = units[2 * position : 2 * position + 2]
        states[vm] = f"{_disk(lines, facts.minor)}; kc-promote {promote}, kc-vm {running}"
    return lines[0].split()[0] if lines[0] else "-", states


def _disk(lines: list[str], minor: int) -> str:
    for line in lines:
        words = line.split()
        if words and words[0] == f"{minor}:":
            state = " ".join(word.partition(":")[2] for word in words[1:4])
            return state + (", frozen" if words[-1].startswith("s") else "")
    return "no DRBD"


def lost(nodes: VirtualPair, node: str) -> list[str]:
    """The guests that were told of more writes than that node's copy knows."""
    told = {vm: nodes.acknowledged(vm) for vm in VMS}
    return [f"{vm}: {told[vm]} writes were acknowledged, {node} has {nodes.counter(node, vm)}"
            for vm in VMS if nodes.counter(node, vm) < told[vm]]


def play(nodes: VirtualPair) -> int:
    """The whole story; the exit status."""
    survivor = other(VICTIM)
    demo = Demo(nodes)
    demo.begin("two nodes are up; KISScluster starts, and with it the guests")
    nodes.both("systemctl enable --now kisscluster.target")
    demo.until(survivor, [f"{vm} counts on {facts.home}" for vm, facts in VMS.items()], FAILOVER)
    demo.until(survivor, [f"{node} is steady" for node in NODES], RETURN)
    print(nodes.run(survivor, "kc-status", check=False).stdout)

    demo.begin(f"{VICTIM} loses its power")
    nodes.power_off(VICTIM)
    demo.until(survivor, [f"{vm} counts on {survivor}" for vm in VMS], FAILOVER)
    for vm in VMS:
        first = nodes.dots(vm).after(demo.moment, survivor)[0].time - demo.moment
        print(f"   {vm}: first dot on {survivor} {first:.1f} s after the power loss")
    missing = lost(nodes, survivor)
    print(nodes.run(survivor, "kc-status", check=False).stdout)

    demo.begin(f"{VICTIM} has power again and boots")
    nodes.power_on(VICTIM)
    disks = [f"{node} is Connected UpToDate/UpToDate" for node in NODES]
    demo.until(VICTIM, [*disks, *(f"{node} is steady" for node in NODES)], RETURN)
    print(nodes.run(VICTIM, "kc-status", check=False).stdout)

    missing += [text for node in NODES for text in lost(nodes, node)]
    print("\n".join(["LOST:", *missing]) if missing else "no acknowledged write lost", flush=True)
    return 1 if missing else 0


def main() -> int:
    """Build what is missing, boot, and tell."""
    with virtual.booted_pair(package.deb()) as nodes:
        virtual.configure(nodes)
        return play(nodes)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AssertionError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
