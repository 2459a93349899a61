"""make bench: the figures that are promised, measured here and now, beside their limits."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.cli.node import FakeNode
from tests.lab import container_root, package, setup
from tests.lab.container import DISKS, ContainerPair
from tests.lab.net import Net
from tests.lab.pair import NODES, VMS, Vm, other, wait
from tests.lab.setup import kisscluster_conf
from tests.net.hearts import Hearts

DEADTIME = 3.0
COMMANDS = {
    "kc-quorum": [], "kc-failover": ["-n"], "kc-promote": ["-n", "web1"], "kc-demote": ["-n", "web1"],
    "kc-outdate": ["-n", "web1"], "kc-adjust": ["-n", "web1"], "kc-fence-peer": ["-n", "web1"], "kc-status": [],
    "kc-vm-start": ["-n", "--direct", "web1"], "kc-vm-stop": ["-n", "--direct", "web1"],
}
CROWDS, EACH = (1, 10, 30), 1.5  # guests; seconds of one processor for each of them but the first
CALLS, POWER_LOSSES, IDLE = 15, 2, 20.0


class Figure(NamedTuple):
    name: str
    measured: float
    limit: float
    unit: str


def commands() -> Iterator[Figure]:
    """Wall time of whole processes; the median, because these machines are noisy."""
    with TemporaryDirectory() as base:
        node = FakeNode(Path(base))
        for name, arguments in COMMANDS.items():
            yield Figure(name, statistics.median(_wall(node, name, arguments) for _ in range(CALLS)) * 1000, 80, "ms")


def _wall(node: FakeNode, name: str, arguments: list[str]) -> float:
    node.beat()
    start = time.perf_counter()
    subprocess.run(node.argv(name, *arguments), env=node.environment(), stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def heartbeat() -> Iterator[Figure]:
    """Two daemons that hear each other, at the default interval."""
    net = Net()
    for node in NODES:
        net.plug_veth(node)
    with TemporaryDirectory() as base:
        hearts = Hearts(Path(base), net)
        try:
            for node in NODES:
                (hearts.base / node / "etc/kisscluster.conf").write_text(kisscluster_conf(settle=1))
            hearts.start()
            hearts.settled()
            pid = hearts.daemons["node1"].pid
            before = _processor(pid)
            time.sleep(IDLE)                              # the span that is measured
            used = (_processor(pid) - before) / IDLE
            yield Figure("kc-heartbeat, processor", used * 100, 1, "%")
            yield Figure("kc-heartbeat, resident", _resident(pid), 25, "MB")
        finally:
            hearts.close()
            net.close()


def _processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6


def containers() -> Iterator[Figure]:
    """Power loss to the guest's first dot on the survivor, native speed, a stand-in for DRBD."""
    pair = ContainerPair(package.deb())
    try:
        for _ in range(POWER_LOSSES):
            for victim in NODES:
                yield Figure(f"container pair, power loss of {victim}", _failover(pair, victim), DEADTIME + 1.5, "s")
    finally:
        pair.close()


def _failover(pair: ContainerPair, victim: str) -> float:
    pair.renew()
    setup.write_config(pair, DISKS, settle=2)
    for node in NODES:
        pair.run(node, "systemctl start --no-block kisscluster.target")
    wait(lambda: all(pair.run(node, "kc-status -q", check=False).returncode == 0 for node in NODES), 30, "healthy", 0.5)
    vm = next(name for name, settings in VMS.items() if settings.home == victim)
    dots = pair.dots(vm)
    start = time.monotonic()
    pair.power_off(victim)
    wait(lambda: dots.after(start, other(victim)), 30, f"{vm} runs on {other(victim)}", 0.02)
    return dots.after(start, other(victim))[0].time - start


def crowds() -> Iterator[Figure]:
    """Power loss of the home of 1, 10 and 30 guests, to the first dot of the last of them on the survivor."""
    for count in CROWDS:
        guests = {f"vm{index:02d}": Vm("node1", 100 + index, 7800 + index) for index in range(count)}
        with crowd(guests):
            pair = ContainerPair(package.deb())
            try:
                seconds = _crowd(pair)
            finally:
                pair.close()
        limit = DEADTIME + 1.5 + (count - 1) * EACH / len(os.sched_getaffinity(0))
        yield Figure(f"container pair, power loss, {count} guests", seconds, limit, "s")
        yield Figure(f"container pair, power loss, each of {count}", seconds / count, limit / count, "s")


@contextmanager
def crowd(guests: dict[str, Vm]) -> Iterator[None]:
    """Other guests in the laboratory, for a while."""
    kept = [(table, dict(table)) for table in (VMS, DISKS)]
    VMS.clear()
    VMS.update(guests)
    DISKS.clear()
    DISKS.update({vm: f"{container_root.DISKS}/{vm}" for vm in guests})
    try:
        yield
    finally:
        for table, before in kept:
            table.clear()
            table.update(before)  # type: ignore[arg-type]


def _crowd(pair: ContainerPair) -> float:
    setup.write_config(pair, DISKS, settle=2)
    for node in NODES:
        pair.run(node, "systemctl start --no-block kisscluster.target")
    well = "kc-status -q" + "".join(f" && test -e /run/kisscluster/even/{vm}" for vm in VMS)
    wait(lambda: all(pair.run(node, well, check=False).returncode == 0 for node in NODES), 240, "healthy", 1)
    start = time.monotonic()
    pair.power_off("node1")
    wait(lambda: all(pair.dots(vm).after(start, "node2") for vm in VMS), 120, "all run on node2", 0.02)
    return max(pair.dots(vm).after(start, "node2")[0].time for vm in VMS) - start


def virtual() -> Iterator[Figure]:
    """The same on the real kernel, with real DRBD, under tcg."""
    from tests.lab.bench_virtual import power_losses

    for victim, seconds in power_losses():
        yield Figure(f"virtual pair, power loss of {victim}", seconds, 13, "s")


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "commands": commands, "heartbeat": heartbeat, "containers": containers, "crowds": crowds,
    "virtual": virtual}


def main() -> int:
    """All parts, or those named on the command line; 1 when a figure is above its limit."""
    good = True
    for name in sys.argv[1:] or PARTS:
        for figure in PARTS[name]():
            within = figure.measured <= figure.limit
            good &= within
            print(f"{'ok  ' if within else 'OVER'} {figure.name:40} {figure.measured:8.2f} {figure.unit:3}"
                  f" limit {figure.limit:g}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
