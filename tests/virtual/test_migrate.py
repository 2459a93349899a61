"""A running guest goes there and back on real DRBD, again and again, and counts on as if nothing had happened."""

from __future__ import annotations

import re
import time

from tests.lab.guests import mark, marked
from tests.lab.pair import VMS, command_seconds, other
from tests.lab.virtual import VirtualPair
from tests.virtual.conftest import Kept

VM, TIMES = "web1", 20
MOVE = 120.0  # seconds; under tcg most of it is the start of commands and of a QEMU
STILL = re.compile(r"stood still for at most ([\d.]+) s")


def is_secondary(pair: VirtualPair, node: str) -> bool:
    return pair.run(node, f"drbdadm role {VM}").stdout.startswith("Secondary/")


def test_there_and_back(kept: Kept) -> None:
    """No write is missing, none was counted that nobody saw, and the mark in its memory goes with it."""
    pair, node = kept.take(), VMS[VM].home
    kept.spoiled = True
    mark(pair, node, VM)
    dots, began, told = pair.dots(VM), time.monotonic(), []
    for _ in range(TIMES):
        done = pair.run(node, f"kc-migrate {VM}", MOVE)
        told += STILL.findall(done.stderr)
        node, moved = other(node), time.monotonic()
        pair.wait(lambda since=moved, there=node: dots.after(since, there), 10, f"{VM} counts on {node}")  # type: ignore[misc]
        pair.wait(lambda there=node: is_secondary(pair, other(there)), 10, f"{VM} is Secondary where it was")  # type: ignore[misc]
    pause, slow = dots.longest_pause(began), command_seconds(pair, node)
    print(f"{TIMES} moves in {time.monotonic() - began:.0f} s; longest pause {pause:.1f} s; kc-migrate says {told}")
    assert len(told) == TIMES
    assert marked(pair, node, VM), "it has booted"
    assert pause < max(2.0, 2 * slow), f"a command takes {slow:.1f} s"
    pair.run(node, f"kc-vm-stop {VM}", MOVE)
    for copy in (node, other(node)):
        missing = pair.counter(copy, VM) - pair.acknowledged(VM)
        # the last one may have had no time to be told
        assert missing in (0, 1), f"{copy}: {missing} writes that nobody saw"
