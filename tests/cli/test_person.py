"""Guests that a person starts and stops, and the words that keep them down."""

import fcntl
import subprocess
import time

import pytest

from tests.cli.node import DEAD, HEALTHY, FakeNode

APART = "WFConnection Secondary/Unknown UpToDate/DUnknown r"
SILENT = "storage=down production=down ping=up trace=up unbroken=yes steady=yes"


def test_stop_does_not_wait_for_who_died(node: FakeNode) -> None:
    node.links(DEAD)
    node.facts({"peer/local/running/web1": ""})
    done = node.call("kc-vm-stop", "web1")
    assert (done.returncode, done.stdout) == (0, "vm=web1 running=no\n")


def test_stop_waits_for_who_is_merely_silent(node: FakeNode) -> None:
    """Its word about itself may still be true: the guest may run there."""
    node.links(SILENT)
    node.facts({"peer/local/running/web1": ""})
    node.beat()
    process = subprocess.Popen(node.argv("kc-vm-stop", "web1"), env=node.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        end = time.monotonic() + 10
        while not (node.run / "local/stopped/web1").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)                                         # it has looked at the peer meanwhile
        assert process.poll() is None
        node.links(HEALTHY)
        node.facts({"peer/local/running/web1": None})
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("mark", ["failed", "off"])
def test_start_does_not_wait_for_who_gave_up(node: FakeNode, mark: str) -> None:
    node.facts({f"peer/local/{mark}/web2": ""})
    done = node.call("kc-vm-start", "web2")
    assert (done.returncode, node.called()) == (1, ["systemctl --no-block reset-failed kc-vm@web2.service"])
    assert "kc-vm-start web2" in done.stderr and "node2" in done.stderr


def test_start_of_the_good_copys_guest_stays_here(node: FakeNode) -> None:
    node.drbd("web2", "SyncSource Secondary/Secondary UpToDate/Inconsistent r")
    assert node.call("kc-vm-start", "web2").returncode == 0
    assert node.called()[-1] == "systemctl start kc-vm@web2.service"


def test_a_word_waits_for_who_keeps_the_newest(node: FakeNode) -> None:
    """kc-quorum had read "on" when a person said "off", and wrote it down after that."""
    (node.run / "lock").mkdir()
    with (node.run / "lock/quorum").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(node.argv("kc-standby", "on"), env=node.environment()) as process:
            time.sleep(0.5)
            assert process.poll() is None and not (node.run / "local/standby").exists()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.wait(10) == 0
    assert (node.run / "local/standby").read_text() == (node.lib / "words/standby").read_text() == "yes 1\n"
