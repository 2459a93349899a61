"""What the virtual scenarios look at."""

from __future__ import annotations

import re
import subprocess

from tests.lab import virtual
from tests.lab.pair import NODES, VMS
from tests.lab.virtual import VirtualPair

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
FROZEN = re.compile(r"^ *([\d.]+) .*drbd (\w+):.* susp\( ([01]) -> [01] \)")


def boot_id(pair: VirtualPair, node: str) -> str:
    """Another one after each boot; empty while the node does not answer."""
    try:
        return pair.machines[node].run(BOOT_ID, 2).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""


def wait_for_reset(pair: VirtualPair, node: str, before: str, timeout: float = 90) -> None:
    """The node boots again by itself."""
    pair.wait(lambda: boot_id(pair, node) not in ("", before), timeout, f"{node} resets itself and boots")


def wait_for_guest(pair: VirtualPair, vm: str, node: str, timeout: float = 90) -> None:
    """The guest counts on that node."""
    pair.wait(lambda: virtual.counts(pair, vm, node), timeout, f"{vm} counts on {node}")


def wait_for_mirror(pair: VirtualPair, timeout: float = 120) -> None:
    """Both copies of every disk are good again, and nobody saw a split brain on the way."""
    def good() -> bool:
        return all(virtual.all_up_to_date(pair, node) for node in NODES)
    pair.wait(good, timeout, "Connected UpToDate/UpToDate on both nodes")
    for node in NODES:
        assert not pair.run(node, "ls /var/lib/kisscluster/split-brain").stdout
        assert "Split-Brain" not in pair.run(node, "journalctl -k -b --no-pager").stdout


def wait_for_health(pair: VirtualPair, timeout: float = 90) -> None:
    """kc-status has nothing to complain about on either node."""
    def well() -> bool:
        return all(pair.run(node, "kc-status", check=False).returncode == 0 for node in NODES)
    pair.wait(well, timeout, "kc-status is content on both nodes")


def nothing_lost(pair: VirtualPair, node: str) -> None:
    """That node's copies know of every write that a guest was told is on disk."""
    for vm in VMS:
        told = pair.acknowledged(vm)
        assert pair.counter(node, vm) >= told, f"{vm}: {told} writes acknowledged, fewer on {node}"


def only_at_home(pair: VirtualPair, since: float) -> None:
    """Every guest counted, and none anywhere but at home."""
    for vm, facts in VMS.items():
        nodes = {dot.node for dot in pair.dots(vm).after(since)}
        assert nodes == {facts.home}, f"{vm} counted on {nodes}"


def freezes(pair: VirtualPair, node: str, vm: str) -> list[float]:
    """How long each freeze of the guest's writes lasted, by the kernel's own clock, from DRBD's notice on."""
    lines = pair.run(node, "journalctl -k -b -o short-monotonic --no-pager | tr -d '[]'").stdout.splitlines()
    found = [match for match in map(FROZEN.match, lines) if match and match[2] == vm]
    starts = [float(match[1]) for match in found if match[3] == "0"]
    ends = [float(match[1]) for match in found if match[3] == "1"]
    return [end - start for start, end in zip(starts, ends, strict=False)]
