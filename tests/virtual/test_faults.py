"""Real crashes of a pair with the real kernel and real DRBD: the guests come back, and no write is lost."""

from __future__ import annotations

import time

import pytest

from tests.lab.pair import NETWORKS, NODES, VMS, command_seconds, other
from tests.lab.virtual import VirtualPair, counts
from tests.virtual.checks import (
    boot_id,
    freezes,
    nothing_lost,
    only_at_home,
    wait_for_guest,
    wait_for_health,
    wait_for_mirror,
    wait_for_reset,
)

PROMISED = 2.0  # seconds from DRBD's notice until writes go on, where starting a command takes no time
STARTS = 3  # a handler, what it waits for from the peer, and what runs beside it


@pytest.mark.parametrize("victim", NODES)
def test_power_loss(pair: VirtualPair, victim: str) -> None:
    """The survivor runs everything; the other comes back, catches up, and takes nothing away."""
    survivor = other(victim)
    pair.power_off(victim)
    for vm in VMS:
        wait_for_guest(pair, vm, survivor)
    nothing_lost(pair, survivor)
    pair.power_on(victim)
    wait_for_mirror(pair)
    assert all(counts(pair, vm, survivor) for vm in VMS)
    nothing_lost(pair, victim)


def test_hung_node_returns(pair: VirtualPair) -> None:
    """A node that stood still for a minute was overtaken: it resets itself and rejoins."""
    before = boot_id(pair, "node1")
    pair.pause("node1")
    started = time.monotonic()
    wait_for_guest(pair, "web1", "node2")
    pair.wait(lambda: time.monotonic() > started + 60, 70, "a minute is over")
    pair.resume("node1")
    wait_for_reset(pair, "node1", before)
    wait_for_mirror(pair)
    assert counts(pair, "web1", "node2")
    for node in NODES:
        nothing_lost(pair, node)


def test_storage_cable_out_and_in(pair: VirtualPair) -> None:
    """Writes freeze for a moment, nothing moves, and the mirror heals by itself."""
    limit = PROMISED + STARTS * max(command_seconds(pair, node) for node in NODES)
    started = time.monotonic()
    pair.cable("node1", "storage", False)
    for vm, facts in VMS.items():
        pair.wait(lambda vm=vm, home=facts.home: freezes(pair, home, vm), 60, f"{vm} froze and went on")  # type: ignore[misc]
    silences = {vm: pair.dots(vm).longest_pause(started) for vm in VMS}
    durations = {vm: freezes(pair, facts.home, vm) for vm, facts in VMS.items()}
    print(f"silent for {silences}, frozen for {durations}, allowed {limit:.1f}")
    pair.cable("node1", "storage", True)
    wait_for_mirror(pair)
    only_at_home(pair, started)
    for node in NODES:
        nothing_lost(pair, node)
    assert all(max(each) <= limit for each in durations.values()), (durations, limit)


def test_stale_copy_is_not_started(pair: VirtualPair) -> None:
    """The home node dies after the storage cable was cut: its guest waits for it, and kc-status says so."""
    pair.cable("node1", "storage", False)
    pair.wait(lambda: "Outdated" in pair.run("node2", "drbdadm dstate web1").stdout, 60, "node2 outdates web1")
    pair.wait(lambda: counts(pair, "web1", "node1"), 60, "web1 goes on")
    pair.power_off("node1")
    died = time.monotonic()
    decision = "cat /run/kisscluster/decision"
    pair.wait(lambda: pair.run("node2", decision, check=False).stdout.startswith("all"), 60, "node2 decides all")
    pair.wait(lambda: time.monotonic() > died + 20, 30, "time enough for a wrong promotion")
    assert not pair.dots("web1").after(died)
    assert counts(pair, "web2", "node2")
    status = pair.run("node2", "kc-status", check=False)
    assert status.returncode == 1
    assert "web1" in status.stdout
    pair.power_on("node1")
    pair.cable("node1", "storage", True)
    wait_for_guest(pair, "web1", "node1", 90)
    wait_for_mirror(pair)
    for node in NODES:
        nothing_lost(pair, node)


def test_dead_switch_moves_nothing(pair: VirtualPair) -> None:
    """Nobody has a LAN, so nothing is gained by moving; afterwards all is well by itself."""
    started = time.monotonic()
    pair.switch(False)
    pair.wait(lambda: time.monotonic() > started + 20, 30, "several deadtimes are over")
    assert max(pair.dots(vm).longest_pause(started) for vm in VMS) < 3
    pair.switch(True)
    wait_for_health(pair)
    only_at_home(pair, started)


def test_isolated_node_is_overtaken(pair: VirtualPair) -> None:
    """Cut off from everything it writes nothing; when it hears the other again it resets itself and rejoins."""
    before = boot_id(pair, "node1")
    for network in NETWORKS:
        pair.cable("node1", network, False)
    wait_for_guest(pair, "web1", "node2")
    frozen = pair.counter("node1", "web1")
    cut = len(pair.dots("web1").after(0, "node1"))
    time.sleep(5)  # there is nothing to wait for: it must do nothing
    assert len(pair.dots("web1").after(0, "node1")) == cut
    assert pair.counter("node1", "web1") == frozen
    for network in NETWORKS:
        pair.cable("node1", network, True)
    wait_for_reset(pair, "node1", before)
    wait_for_mirror(pair)
    assert counts(pair, "web1", "node2")
    for node in NODES:
        nothing_lost(pair, node)


def test_heartbeat_killed_ten_times(pair: VirtualPair) -> None:
    """The cluster is blind for moments, and moves nothing."""
    started = time.monotonic()
    pid = "systemctl show -P MainPID kc-heartbeat.service"
    for _ in range(10):
        pair.wait(lambda: pair.run("node1", pid).stdout.strip() != "0", 15, "kc-heartbeat starts again")
        pair.run("node1", "systemctl kill -s KILL --kill-whom=main kc-heartbeat.service", check=False)
    wait_for_health(pair)
    only_at_home(pair, started)
    assert max(pair.dots(vm).longest_pause(started) for vm in VMS) < 3
    for node in NODES:
        nothing_lost(pair, node)
