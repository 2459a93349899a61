"""Power loss to the guest's first dot on the survivor, on the real kernel with real DRBD."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.lab import setup, virtual
from tests.lab.pair import NODES, VMS, other
from tests.lab.virtual import VirtualPair

BEFORE = 5.0
GIVE_UP = 60.0


def power_losses() -> Iterator[tuple[str, float]]:
    """Each node as the victim, and the seconds its guest was away."""
    for victim in NODES:
        nodes = virtual.restored(virtual.ready(**setup.SLOW))
        try:
            yield victim, _power_loss(nodes, victim)
        finally:
            nodes.close()


def _power_loss(nodes: VirtualPair, victim: str) -> float:
    vm = next(name for name, facts in VMS.items() if facts.home == victim)
    time.sleep(BEFORE)                               # a node just woken has more to do than one that idles
    dots, start = nodes.dots(vm), time.monotonic()
    nodes.power_off(victim)
    nodes.wait(lambda: dots.after(start, other(victim)), GIVE_UP, f"{vm} counts on {other(victim)}")
    return dots.after(start, other(victim))[0].time - start


if __name__ == "__main__":
    for name, seconds in power_losses():
        print(f"power loss of {name}: {seconds:.2f} s", flush=True)
