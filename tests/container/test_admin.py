"""What administrators do, in the container pair: stop and start, standby, reboot, upgrade, and a QEMU that dies."""

from __future__ import annotations

import json
import time

import pytest

from tests.container.conftest import connected
from tests.container.test_pair import CALM, both_read_it, fact, since, steady
from tests.lab import setup
from tests.lab.container import ContainerPair
from tests.lab.pair import NODES, VMS


@pytest.fixture
def quick(cluster: ContainerPair) -> ContainerPair:
    """The guest of one sector never obeys the power button: it gets one second."""
    for node in NODES:
        for vm in VMS:
            cluster.write(node, f"/etc/kisscluster/vm/{vm}.conf", setup.vm_conf(vm, stop_timeout=1))
    both_read_it(cluster)
    return cluster



def test_stopped_by_a_person_stays_stopped_on_both(quick: ContainerPair) -> None:
    done = quick.run("node2", "kc-vm-stop web1")                   # typed where it does not run
    assert "kc-vm-start web1" in done.stderr
    quick.wait(lambda: "Secondary/Secondary" in fact(quick, "node1", "drbd/web1"), 10, "demoted")
    assert quick.run("node1", "kc-status", check=False).returncode == 0
    start = time.monotonic()
    for node in NODES:
        quick.run(node, "touch /run/kisscluster/wake/failover")
    quick.wait(lambda: not fact(quick, "node1", "wake/failover"), 5, "the tick ran")
    time.sleep(1.5)
    assert not quick.dots("web1").after(start)
    quick.run("node2", "kc-vm-start web1")
    quick.wait(since(quick, "web1", start, "node1"), 10, "web1 runs at home again")


def test_standby_hands_over_and_back(quick: ContainerPair) -> None:
    start = time.monotonic()
    done = quick.run("node1", "kc-standby on")
    assert "kc-standby off" in done.stderr
    quick.wait(since(quick, "web1", start, "node2"), 25, "web1 runs on node2")
    quick.wait(lambda: fact(quick, "node1", "decision").startswith("none "), 10, "the next count of the votes says so")
    quick.wait(lambda: connected(quick), 5, "mirrored all the time")
    quick.run("node1", "kc-standby off")
    quick.wait(lambda: fact(quick, "node1", "decision").startswith("home "), 10, "node1 may serve again")
    moment = time.monotonic()
    quick.wait(since(quick, "web1", moment + 1, "node2"), 5, "nothing moves by itself")


def test_maintenance_changes_nothing(quick: ContainerPair) -> None:
    quick.run("node2", "kc-maintenance on")
    for node in NODES:
        quick.wait(lambda node=node: fact(quick, node, "decision").startswith("hold "), 10, f"{node} holds")  # type: ignore[misc]
    start = time.monotonic()
    quick.run("node1", "kc-standby on")
    time.sleep(2)
    steady(quick, "web1", start, CALM)
    quick.run("node1", "kc-standby off; kc-maintenance off")
    for node in NODES:
        quick.wait(lambda node=node: fact(quick, node, "decision").startswith("home "), 10, f"{node} works")  # type: ignore[misc]


def test_guest_that_switches_itself_off_stays_off(quick: ContainerPair) -> None:
    quick.run("node1", "kill -TERM $(cat /run/kisscluster/vm/web1/pid)")     # QEMU ends with 0, as after a guest's wish
    quick.wait(lambda: "Secondary/Secondary" in fact(quick, "node1", "drbd/web1"), 10, "demoted")
    start = time.monotonic()
    quick.run("node1", "touch /run/kisscluster/wake/failover")
    time.sleep(6.5)                                                           # a tick, too
    assert not quick.dots("web1").after(start)
    for node in NODES:
        assert "switched itself off" in quick.run(node, "kc-status", check=False).stdout
    quick.run("node1", "kc-vm-start web1")
    quick.wait(since(quick, "web1", start, "node1"), 10, "a person starts it again")


def kill_qemu(pair: ContainerPair, vm: str) -> None:
    pair.wait(lambda: pair.run("node1", f"kill -KILL $(cat /run/kisscluster/vm/{vm}/pid)", check=False).returncode == 0,
              15, "QEMU runs, and is killed")


def test_qemu_that_dies_is_restarted_then_left_down(quick: ContainerPair) -> None:
    start = time.monotonic()
    kill_qemu(quick, "web1")
    quick.wait(since(quick, "web1", start + 0.5, "node1"), 10, "restarted")
    quick.run("node1", "systemctl reset-failed kc-vm@web1", check=False)

    def down() -> bool:
        quick.run("node1", "kill -KILL $(cat /run/kisscluster/vm/web1/pid)", check=False)
        return bool(quick.run("node1", "test -e /run/kisscluster/local/failed/web1", check=False).returncode == 0)
    quick.wait(down, 30, "left down")
    done = quick.run("node1", "kc-status", check=False)
    assert done.returncode == 1
    assert "failed again and again" in done.stdout and "kc-vm-start web1" in done.stdout
    start = time.monotonic()
    quick.run("node1", "kc-vm-start web1")
    quick.wait(since(quick, "web1", start, "node1"), 10, "a person starts it again")


def test_a_person_may_start_it_as_often_as_wanted(quick: ContainerPair) -> None:
    """The limit is for a QEMU that fails; what ended well is not counted."""
    for _ in range(5):
        start = time.monotonic()
        quick.run("node1", "kc-vm-stop web1 && kc-vm-start web1", timeout=60)
        quick.wait(since(quick, "web1", start + 1, "node1"), 10, "web1 runs again")


def test_storm_of_changes_leaves_no_unit_failed(quick: ContainerPair) -> None:
    start = time.monotonic()
    flags = "/run/kisscluster/wake/failover /run/kisscluster/wake/quorum"
    quick.run("node1", f"for i in $(seq 300); do touch {flags}; done", timeout=60)
    quick.wait(lambda: quick.run("node1", "ls /run/kisscluster/wake").stdout == "", 10, "all flags are taken")
    assert quick.run("node1", "systemctl --failed --plain --no-legend").stdout == ""
    assert quick.run("node1", "systemctl is-active kc-failover.path kc-quorum.path").stdout.split() == ["active"] * 2
    steady(quick, "web1", start, CALM)


LABORATORY = {"kernel.panic is 0", "the clock is not synchronised"}      # the host's


def doctor(pair: ContainerPair, node: str, user: str = "") -> tuple[int, set[str], set[str]]:
    """Its exit status, what it finds that is not the laboratory's own, and what it does not know."""
    done = pair.run(node, f"{user} kc-doctor --json", check=False)
    told = json.loads(done.stdout)
    return done.returncode, {item["text"] for item in told["findings"]} - LABORATORY, set(told["unknown"])


def test_doctor_finds_what_a_person_has_spoiled_and_nothing_else(quick: ContainerPair) -> None:
    for node in NODES:
        status, found, unknown = doctor(quick, node)
        assert (found, unknown - {"clock"}) == (set(), set()) and status in (0, 1, 112)
    status, found, unknown = doctor(quick, "node1", "setpriv --reuid=nobody --clear-groups --")
    assert found == set() and "secret" in unknown and status in (1, 112)
    file = quick.read("node1", "/etc/drbd.d/web1.res")
    spoil = ["sed -i s/resource-and-stonith/dont-care/ /etc/drbd.d/web1.res", "ip link set stor mtu 9000",
             "systemctl disable kisscluster.target", "chmod 0640 /etc/kisscluster/secret"]
    quick.run("node1", " && ".join(spoil))
    _, found, _ = doctor(quick, "node1")
    mend = ["systemctl enable kisscluster.target", "ip link set stor mtu 1500", "chmod 0600 /etc/kisscluster/secret"]
    quick.run("node1", " && ".join(mend))
    quick.write("node1", "/etc/drbd.d/web1.res", file)
    assert {text.rpartition("/")[2] for text in found} == {
        "DRBD's disk fencing is dont-care: expected resource-and-stonith", "kisscluster.target is not enabled",
        "packets of 9000 bytes, the storage interface's MTU, do not reach the peer",
        "secret: mode 0640: expected 0600, nobody but root may read it"}
    assert doctor(quick, "node1")[1] == set()
    assert doctor(quick, "node2")[1] == set()
