"""The heartbeat's word is half an interval old: before a mark or a disk is changed, the kernel is asked again."""

from __future__ import annotations

import pytest

from tests.cli.node import DEAD, FakeNode

APART = "WFConnection Secondary/Unknown UpToDate/DUnknown r"
EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"
FROZEN = "WFConnection Primary/Unknown UpToDate/DUnknown s"
FAILED_FROZEN = "WFConnection Primary/Unknown Diskless/DUnknown s"
UNASKED = "WFConnection Primary/Unknown UpToDate/Inconsistent r"
GONE_ON = {"peer/ahead/web1": "", "peer/drbd/web1": "WFConnection Primary/Unknown UpToDate/Outdated r"}


def kernel(node: FakeNode, line: str, heartbeat: str) -> None:
    """web1 changed a moment ago: the heartbeat has not looked since."""
    node.drbd("web1", line)
    node.facts({"drbd/web1": heartbeat})


@pytest.mark.parametrize(("now", "ahead"), [
    (UNASKED, True), (FROZEN, False), (APART, False), ("Connected Primary/Secondary UpToDate/UpToDate r", False),
    ("SyncSource Primary/Secondary UpToDate/Inconsistent r", False),
])
def test_ahead_only_if_it_is_still_written_here_alone(node: FakeNode, now: str, ahead: bool) -> None:
    kernel(node, now, UNASKED)
    node.call("kc-failover")
    assert node.ahead("web1").exists() is ahead


def test_ahead_beside_a_failed_disk(node: FakeNode) -> None:
    node.drbd("web1", "Connected Secondary/Primary UpToDate/Diskless r")
    node.call("kc-failover")
    assert node.ahead("web1").exists()


@pytest.mark.parametrize(("now", "left"), [(EVEN, False), ("Connected Primary/Secondary UpToDate/UpToDate r", True)])
def test_running_goes_only_with_the_role(node: FakeNode, now: str, left: bool) -> None:
    node.facts({"local/running/web1": ""})
    kernel(node, now, EVEN)
    node.call("kc-failover")
    assert (node.run / "local/running/web1").exists() is left


def test_outdate_waits_for_the_heartbeat(node: FakeNode) -> None:
    """Promoted, or connected, since the heartbeat looked: the peer's words about it are as old."""
    node.facts({**GONE_ON, "yields/web1": ""})
    for now in (FROZEN, EVEN, FAILED_FROZEN):
        kernel(node, now, APART)
        done = node.call("kc-outdate", "web1")
        assert (done.returncode, node.called()) == (75, []), now


def test_adjust_asks_the_kernel(node: FakeNode) -> None:
    (node.lib / "split-brain").mkdir()
    (node.lib / "split-brain/web1").touch()
    kernel(node, "StandAlone Secondary/Unknown UpToDate/DUnknown r", APART)
    assert node.call("kc-adjust", "web1").returncode == 107
    assert node.called() == []
    kernel(node, EVEN, FROZEN)
    assert node.call("kc-adjust", "web1").returncode == 0
    assert node.called() == ["drbdadm adjust web1"]


@pytest.mark.parametrize("line", [FROZEN, FAILED_FROZEN])
def test_adjust_resets_who_was_overtaken_and_has_no_handler(node: FakeNode, line: str) -> None:
    node.drbd("web1", line)
    (node.base / "sysrq").touch()
    node.facts(dict(GONE_ON))
    assert node.call("kc-adjust", "--dry-run", "web1").stdout.splitlines()[:2] == [
        "journalctl --sync", f"printf b > {node.base}/sysrq"]
    assert (node.base / "sysrq").read_text() == ""
    node.call("kc-adjust", "web1")
    assert (node.base / "sysrq").read_text() == "b"


@pytest.mark.parametrize(("line", "answer", "reset"), [
    ("StandAlone Primary/Unknown Diskless/DUnknown s", "", True),       # twice connected, twice refused
    ("StandAlone Primary/Unknown Diskless/DUnknown s", "exit 10", False),  # the cable took the address away
    ("StandAlone Primary/Unknown UpToDate/DUnknown s", "", False),      # for a good disk the kernel asks the handler
    (FAILED_FROZEN, "", False),                                         # it looks for the peer
])
def test_adjust_resets_who_was_overtaken_by_one_that_is_primary_no_more(
        node: FakeNode, line: str, answer: str, reset: bool) -> None:
    node.drbd("web1", line)
    node.answer("drbdadm", "connect", answer)
    (node.base / "sysrq").touch()
    node.facts({**GONE_ON, "peer/drbd/web1": "WFConnection Secondary/Unknown UpToDate/DUnknown r"})
    assert "sysrq" not in node.call("kc-adjust", "--dry-run", "web1").stdout
    node.call("kc-adjust", "web1")
    assert (node.base / "sysrq").read_text() == "b" * reset


@pytest.mark.parametrize("why", ["ahead too", "peer silent", "peer secondary", "peer not ahead", "connected"])
def test_adjust_resets_nobody_else(node: FakeNode, why: str) -> None:
    node.drbd("web1", FAILED_FROZEN)
    (node.base / "sysrq").touch()
    facts: dict[str, str | None] = dict(GONE_ON)
    if why == "ahead too":
        node.ahead("web1").touch()
    elif why == "peer silent":
        node.links(DEAD)
    elif why == "peer secondary":
        facts["peer/drbd/web1"] = APART
    elif why == "peer not ahead":
        facts["peer/ahead/web1"] = None
    else:
        kernel(node, "Connected Primary/Secondary Diskless/UpToDate r", FAILED_FROZEN)
    node.facts(facts)
    node.call("kc-adjust", "web1")
    assert (node.base / "sysrq").read_text() == ""


def test_marks_of_a_guest_that_was_started_on_the_peer(node: FakeNode) -> None:
    """Else it stays down here when the peer dies, though a person had started it."""
    node.drbd("web1", "Connected Secondary/Primary UpToDate/UpToDate r")
    node.facts({"local/off/web1": "", "local/failed/web1": "", "peer/local/running/web1": ""})
    node.call("kc-failover")
    assert not (node.run / "local/off/web1").exists() and not (node.run / "local/failed/web1").exists()
    assert node.called() == ["systemctl --no-block reset-failed kc-vm@web1.service"]
