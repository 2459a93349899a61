"""The laboratory itself: its faults do what they say, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import build
from tests.lab.container import ContainerPair
from tests.lab.container_root import cgroup_roots
from tests.lab.pair import PRODUCTION, STORAGE, SWITCH, wait

OTHER_LAB = """
from tests.lab.container import ContainerPair
pair = ContainerPair(None)
print("ready", flush=True)
pair.wait(lambda: False, 60, "the end")
"""


def reaches(pair: ContainerPair, address: str, node: str = "node1") -> bool:
    """Does an address answer one ping?"""
    return pair.run(node, f"ping -q -c 1 -W 1 {address}", check=False).returncode == 0


def test_networks_and_their_faults(lab: ContainerPair) -> None:
    """Cable, silence and switch each cut what they should, and only that."""
    def seen() -> list[bool]:
        return [reaches(lab, address) for address in (SWITCH, PRODUCTION["node2"], STORAGE["node2"])]

    assert seen() == [True, True, True]
    lab.cable("node1", "storage", False)
    assert "NO-CARRIER" in lab.run("node1", "ip link show stor").stdout
    assert "10.0.0.1" in lab.run("node1", "ip address show stor").stdout
    assert seen() == [True, True, False]
    lab.cable("node1", "storage", True)
    lab.silence("node1", "production", True)
    assert "NO-CARRIER" not in lab.run("node1", "ip link show prod").stdout
    assert seen() == [False, False, True]
    lab.silence("node1", "production", False)
    lab.switch(False)
    assert seen() == [False, False, True]
    lab.switch(True)
    assert seen() == [True, True, True]


def test_power_and_pause(lab: ContainerPair) -> None:
    """Off and frozen nodes answer nothing; what was on the disk is there again."""
    lab.run("node2", "echo kept > /var/kept; (while echo x; do sleep 0.02; done) > /var/ticks 2>&1 & true")
    lab.pause("node2")
    ticks = (lab.nodes["node2"].root / "var/ticks").stat().st_size
    assert not reaches(lab, PRODUCTION["node2"]) and not reaches(lab, STORAGE["node2"])
    assert (lab.nodes["node2"].root / "var/ticks").stat().st_size == ticks
    lab.resume("node2")
    assert reaches(lab, PRODUCTION["node2"])
    lab.power_off("node2")
    assert not reaches(lab, PRODUCTION["node2"])
    lab.power_on("node2")
    assert reaches(lab, PRODUCTION["node2"])
    assert lab.read("node2", "/var/kept") == "kept\n"


def test_reset_of_a_node_is_not_one_of_the_host(lab: ContainerPair) -> None:
    """Both ways to reset end in a power cycle of the node."""
    for command in ("echo b > $KC_SYSRQ", "systemctl reboot --force --force"):
        boots = lab.nodes["node2"].boots
        lab.run("node2", command, check=False)
        lab.wait(lambda before=boots: lab.nodes["node2"].boots > before, 10, command)  # type: ignore[misc]
    guarded = lab.run("node2", "test ! -e /proc/sysrq-trigger || test /proc/sysrq-trigger -ef /lab/sysrq", check=False)
    assert guarded.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(number: signal.Signals) -> None:
    """However a laboratory ends, its processes, names and mounts end, too."""
    lab = subprocess.Popen([sys.executable, "-c", OTHER_LAB], cwd=build.CHECKOUT, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, start_new_session=True)
    assert lab.stdout and lab.stdout.readline() == b"ready\n"
    assert left_of(lab.pid)
    os.killpg(lab.pid, number)
    lab.wait(20)
    wait(lambda: not left_of(lab.pid), 5, f"nothing is left but {left_of(lab.pid)}")
    assert f"run-{lab.pid}-" not in Path("/proc/mounts").read_text()
    if number is not signal.SIGKILL:  # the next laboratory sweeps after that
        assert not [group for top in cgroup_roots() for group in top.glob(f"kclab-{lab.pid}-*")]
        assert not list(build.lab_dir().glob(f"run-{lab.pid}-*"))


def left_of(pid: int) -> list[str]:
    """The processes in the cgroups of a laboratory."""
    groups = [group for top in cgroup_roots() for group in top.glob(f"kclab-{pid}-*/**/cgroup.procs")]
    return [process for group in groups for process in group.read_text().split()]
