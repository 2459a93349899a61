"""The faults of the design's table, in the container pair: real systemd, real networks, real guests."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab.container import ContainerPair
from tests.lab.pair import NETWORKS, NODES, VMS, other
from tests.lab.setup import vm_conf

DEADTIME = 3.0
CALM = 3.0                    # seconds: the pauses of a busy machine are shorter, a move takes longer


def fact(pair: ContainerPair, node: str, path: str) -> str:
    """A state file, or nothing."""
    return pair.run(node, f"cat /run/kisscluster/{path}", check=False).stdout.strip()


def even(pair: ContainerPair, node: str, vm: str) -> bool:
    """Does the node know that both copies are the same, so that it could go on alone?"""
    return pair.run(node, f"test -e /run/kisscluster/even/{vm}", check=False).returncode == 0


def since(pair: ContainerPair, vm: str, moment: float, node: str) -> Callable[[], object]:
    """Did a guest print on that node after that moment?"""
    return lambda: pair.dots(vm).after(moment, node)


def nothing_lost(pair: ContainerPair, vm: str, node: str) -> None:
    """The counter on the disk is never below what the guest said it had written."""
    dots = len(pair.dots(vm))
    assert pair.counter(node, vm) >= dots > 0


def steady(pair: ContainerPair, vm: str, start: float, longest: float) -> None:
    """A guest printed at home all the time since, with no pause longer than that."""
    home = VMS[vm].home
    dots = pair.dots(vm).after(start)
    times = [start, *(dot.time for dot in dots), time.monotonic()]
    assert {dot.node for dot in dots} == {home}
    assert max(after - before for before, after in zip(times, times[1:], strict=False)) < longest


def both_read_it(pair: ContainerPair) -> None:
    """What was written to the configuration is known on both nodes, and on each that the other knows it."""
    for node in NODES:
        pair.run(node, "kc-quorum")
    facts = [(node, name) for node in NODES for name in ("local/config", "peer/local/config")]
    words = pair.run("node1", "kc-quorum -q; cat /run/kisscluster/local/config").stdout.strip()
    pair.wait(lambda: all(fact(pair, *each) == words for each in facts), 15, "both read the configuration")


def test_healthy(cluster: ContainerPair) -> None:
    """Every guest at home, both copies the same, nobody complains."""
    for vm, settings in VMS.items():
        nothing_lost(cluster, vm, settings.home)
        nothing_lost(cluster, vm, other(settings.home))
    cluster.wait(lambda: fact(cluster, "node1", "decision").startswith("home "), 8, "node1 decides home")
    assert cluster.run("node1", "systemctl --failed --plain --no-legend").stdout == ""


def test_heartbeat_killed_ten_times(cluster: ContainerPair) -> None:
    """A crash of ours is no reason to touch a guest."""
    start = time.monotonic()
    for _ in range(10):
        cluster.run("node1", "systemctl kill -s KILL kc-heartbeat.service", check=False)
        time.sleep(0.25)
    for vm in VMS:
        steady(cluster, vm, start, CALM)
    cluster.wait(lambda: fact(cluster, "node1", "decision").startswith("home "), 15, "node1 decides home again")


def test_switch_dead(cluster: ContainerPair) -> None:
    """Nobody has a LAN: nothing is gained by moving."""
    start = time.monotonic()
    cluster.switch(False)
    cluster.wait(lambda: "production=down" in fact(cluster, "node1", "links"), 8, "node1 misses production")
    time.sleep(2)
    cluster.switch(True)
    cluster.wait(lambda: "production=up" in fact(cluster, "node1", "links"), 8, "node1 hears production")
    for vm in VMS:
        steady(cluster, vm, start, CALM)


def test_ping_address_silent(cluster: ContainerPair) -> None:
    """A lost ping alone moves nothing."""
    start = time.monotonic()
    cluster.net.ping_address(False)
    for node in NODES:
        cluster.wait(lambda node=node: "ping=down" in fact(cluster, node, "links"), 8, f"{node} misses it")  # type: ignore[misc]
    time.sleep(2)
    assert [fact(cluster, node, "decision").split()[0] for node in NODES] == ["home", "home"]
    cluster.net.ping_address(True)
    for vm in VMS:
        steady(cluster, vm, start, CALM)


def test_storage_cable_out_and_in(cluster: ContainerPair) -> None:
    """Writes freeze until the other node yields, about a second; then everything goes on at home."""
    start = time.monotonic()
    cluster.cable("node1", "storage", False)
    cluster.wait(lambda: fact(cluster, "node2", "drbd/web1").startswith("WFConnection"), 8, "DRBD notices")
    for vm, settings in VMS.items():
        cluster.wait(since(cluster, vm, time.monotonic() + 0.2, settings.home), 8, f"{vm} goes on")
    for vm in VMS:
        steady(cluster, vm, start, 6.0)
        assert cluster.run(VMS[vm].home, f"test -e /var/lib/kisscluster/ahead/{vm}", check=False).returncode == 0
    cluster.cable("node1", "storage", True)
    for vm in VMS:
        cluster.wait(lambda vm=vm: "Connected" in fact(cluster, "node1", f"drbd/{vm}")  # type: ignore[misc]
                     and fact(cluster, "node1", f"drbd/{vm}").endswith("UpToDate/UpToDate r"), 10, f"{vm} in sync")
        cluster.wait(lambda vm=vm: cluster.run(  # type: ignore[misc]
            VMS[vm].home, f"test -e /var/lib/kisscluster/ahead/{vm}", check=False).returncode, 8, "nobody is ahead")
        nothing_lost(cluster, vm, other(VMS[vm].home))


def test_disk_fails(cluster: ContainerPair) -> None:
    """The guest runs on over the network, and kc-status tells."""
    start = time.monotonic()
    cluster.run("node1", "drbdadm detach web1")  # the stand-in takes it for an error of the disk
    cluster.wait(lambda: "Diskless/UpToDate" in fact(cluster, "node1", "drbd/web1"), 5, "kc-heartbeat notices")
    cluster.wait(since(cluster, "web1", time.monotonic() + 2, "node1"), 5, "web1 goes on")
    steady(cluster, "web1", start, CALM)
    nothing_lost(cluster, "web1", "node2")
    assert "Diskless" in cluster.run("node1", "kc-status", check=False).stdout


def test_production_cable_of_the_home(cluster: ContainerPair) -> None:
    """A guest whose LAN is gone goes where there is one; the other node's guests are not touched."""
    for node in NODES:
        cluster.write(node, "/etc/kisscluster/vm/web1.conf", vm_conf("web1", stop_timeout=1))
    both_read_it(cluster)
    start = time.monotonic()
    cluster.cable("node1", "production", False)
    took = cluster.wait(since(cluster, "web1", start, "node2"), 40, "web1 runs on node2")
    print(f"production cable: first dot after {took:.2f} s")
    cluster.wait(lambda: "UpToDate/UpToDate" in fact(cluster, "node2", "drbd/web1"), 5, "mirrored all the time")
    nothing_lost(cluster, "web1", "node2")
    steady(cluster, "web2", start, CALM)


def test_power_loss_of_each_in_turn(cluster: ContainerPair, record_property: Callable[[str, object], None]) -> None:
    """The guests of a dead node boot on the other one about deadtime later; it comes back and resyncs."""
    for victim, vm in (("node1", "web1"), ("node2", "web2")):
        survivor, start = other(victim), time.monotonic()
        cluster.power_off(victim)
        cluster.wait(since(cluster, vm, start, survivor), 15, f"{vm} runs on {survivor}")
        took = cluster.dots(vm).after(start, survivor)[0].time - start
        print(f"power loss of {victim}: first dot after {took:.2f} s (deadtime {DEADTIME} s)")
        record_property(f"first_dot_after_{victim}", round(took, 2))
        for name in VMS:
            cluster.wait(since(cluster, name, time.monotonic() + 0.5, survivor), 5, f"{name} goes on running")
            nothing_lost(cluster, name, survivor)
        cluster.power_on(victim)
        for name in VMS:
            cluster.wait(lambda name=name, victim=victim: even(cluster, victim, name), 20, "resync")  # type: ignore[misc]
        moved = time.monotonic()
    for vm in VMS:
        cluster.wait(since(cluster, vm, moved + 0.5, "node1"), 5, f"{vm} stays where it is")
        nothing_lost(cluster, vm, "node2")


def test_paused_node_was_overtaken(cluster: ContainerPair) -> None:
    """Its guest already runs on the other node when it wakes: it resets itself, and nothing is lost."""
    boots, start = cluster.nodes["node1"].boots, time.monotonic()
    cluster.pause("node1")
    cluster.wait(since(cluster, "web1", start, "node2"), 15, "web1 runs on node2")
    woken = time.monotonic()
    cluster.resume("node1")
    cluster.wait(lambda: cluster.nodes["node1"].boots > boots, 20, "node1 resets itself")
    assert not cluster.dots("web1").after(woken, "node1")
    cluster.wait(since(cluster, "web1", time.monotonic(), "node2"), 5, "web1 goes on")
    nothing_lost(cluster, "web1", "node2")


def test_node_cut_off_from_everything(cluster: ContainerPair) -> None:
    """Isolated it is frozen; when it hears the other again it was overtaken."""
    boots, start = cluster.nodes["node1"].boots, time.monotonic()
    for network in NETWORKS:
        cluster.silence("node1", network, True)
    took = cluster.wait(since(cluster, "web1", start, "node2"), 15, "web1 runs on node2")
    assert not cluster.dots("web1").after(start + took, "node1"), "the isolated node still acknowledged a write"
    cluster.wait(lambda: fact(cluster, "node1", "decision").startswith("hold "), 8, "node1 knows that it is cut off")
    for network in NETWORKS:
        cluster.silence("node1", network, False)
    cluster.wait(lambda: cluster.nodes["node1"].boots > boots, 20, "node1 resets itself")
    nothing_lost(cluster, "web1", "node2")


def test_storage_cut_then_home_dies_then_both(cluster: ContainerPair) -> None:
    """The survivor's copy is stale: the guest stays down, and a human is told how to accept the loss.

    When the survivor loses power, too, and comes back alone, the guest that was ahead there starts, and only that.
    """
    cluster.cable("node1", "storage", False)
    cluster.wait(lambda: cluster.run("node1", "test -e /var/lib/kisscluster/ahead/web1", check=False).returncode == 0,
                 10, "node1 goes on alone")
    cluster.wait(lambda: "Outdated" in fact(cluster, "node2", "drbd/web1"), 10, "node2 writes down that it yielded")
    start = time.monotonic()
    cluster.power_off("node1")
    cluster.wait(lambda: fact(cluster, "node2", "decision").startswith("all "), 15, "node2 takes all")
    told = cluster.run("node2", "kc-status", check=False)
    assert "web1" in told.stdout and "stale" in told.stdout.lower() + told.stderr.lower()
    cluster.wait(since(cluster, "web2", time.monotonic(), "node2"), 5, "web2 still runs")
    cluster.power_off("node2")
    cluster.power_on("node2")
    cluster.wait(since(cluster, "web2", time.monotonic(), "node2"), 15, "web2 runs alone")
    cluster.wait(since(cluster, "web2", time.monotonic() + 1, "node2"), 5, "web2 goes on running")
    nothing_lost(cluster, "web2", "node2")
    assert not cluster.dots("web1").after(start + 0.5)
