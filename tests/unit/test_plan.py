"""What is done for a VM by a decision."""

from typing import Any

import pytest

from kisscluster.decide.facts import Links, NodeFacts, VmFacts
from kisscluster.decide.plan import plan
from kisscluster.decide.quorum import decide
from tests.unit import facts as f
from tests.unit.facts import copy, node, vm

STANDBY = node(me={"standby": True})
AWOKEN = copy(f.FROZEN, running=True)
FAILED = "Connected Primary/Secondary Diskless/UpToDate r"
SURVIVOR = "Connected Secondary/Primary UpToDate/Diskless r"
GONE_ON = copy("WFConnection Primary/Unknown UpToDate/Outdated r", ahead=True)


def verbs(where: NodeFacts, what: VmFacts) -> list[str]:
    return [action.verb for action in plan(decide(where), where, [what], patience=6)]


@pytest.mark.parametrize(("where", "what", "expected"), [
    (node(), vm(), ["start"]),
    (node(), vm(f.PRIMARY, running=True), []),
    (node(), vm(at_home=False), []),
    (node(), vm(f.PEER_PRIMARY), []),                                         # it runs there: not our failback
    (node(), vm(stopped=True), []),
    (node(), vm(failed=True), []),
    (node(), vm(f.PRIMARY, running=True, stopped=True), ["stop"]),
    (node(), vm(None), ["adjust"]),
    (node(), vm(f.PRIMARY), ["start"]),                                       # half done
    (node(maintenance=True), vm(f.PRIMARY), ["start"]),
    (node(f.DEAD), vm("WFConnection Primary/Unknown UpToDate/Outdated r", copy(running=True), ahead=True), ["start"]),
    (node(), vm(f.PRIMARY, copy(running=True)), ["demote"]),
    (node(maintenance=True), vm(), []),
    (node(f.DEAD), vm(f.APART, even=True, at_home=False), ["start"]),
    (node(f.DEAD), vm(f.APART, at_home=False), ["ask"]),
    (node(f.ISOLATED), vm(f.APART, even=True), []),
    (node(f.ISOLATED), vm(f.FROZEN, running=True), []),
    (node(), vm(f.APART), ["ask"]),
    (STANDBY, vm(f.PRIMARY, running=True), ["send"]),
    (STANDBY, vm(f.ALONE, running=True, ahead=True), []),                     # the only good copy stays
    (STANDBY, vm(), []),
    (STANDBY, vm(f.PRIMARY), ["demote"]),
    (node(), vm(f.EVEN, copy(f.EVEN), ahead=True, at_home=False), ["level"]),
    (node(), vm("SyncTarget Secondary/Primary Inconsistent/UpToDate r", ahead=True, at_home=False), ["level"]),
    (node(), vm(f.APART, GONE_ON, yields=True), ["outdate"]),
    (node(), vm(f.APART, GONE_ON, yields=True, ahead=True), []),
    (node(), vm(f.OUTDATED, GONE_ON, yields=True), []),
    (node(), vm("StandAlone Secondary/Unknown UpToDate/DUnknown r", at_home=False), ["adjust"]),
    (node(), vm("StandAlone Secondary/Unknown UpToDate/DUnknown r", at_home=False, split=True), []),
    (node(f.ISOLATED), vm("StandAlone Secondary/Unknown UpToDate/DUnknown r"), []),
    (node(), vm(f.FROZEN, running=True, drbd_age=7), ["adjust"]),
    (node(), vm(f.FROZEN, running=True, drbd_age=5), []),
    (node(), vm(f.FROZEN, running=True, drbd_age=7, handler=True), []),
    (node(), vm(claim=True, at_home=False), ["release"]),
    (node(), vm(f.APART, claim=True, pending=True), ["ask"]),
    (node(), vm(f.PRIMARY, running=True, pending=True), ["clear"]),
    (node(), vm(f.PRIMARY, copy(f.PRIMARY, running=True), at_home=False, running=True), ["stop"]),
    (node(), vm(f.PRIMARY, copy(f.PRIMARY, running=True), running=True), []),
    (node(stale="no heartbeat"), vm(None), []),
    (node(), vm("WFConnection Primary/Unknown UpToDate/Inconsistent r", running=True), ["ahead"]),  # nobody was asked
    (node(), vm(f.ALONE, running=True, ahead=True), []),
    (node(maintenance=True), vm(None), []),
    (node(maintenance=True), vm("StandAlone Secondary/Unknown UpToDate/DUnknown r"), []),
    (node(maintenance=True), vm(f.FROZEN, running=True, drbd_age=7), ["adjust"]),
    (node(stale="no heartbeat"), vm(f.PRIMARY, running=True), []),
    # whose disk failed is not given the survivor's guest, and the survivor's is not stopped for one that wakes
    (node(), vm(f.ALONE, AWOKEN, at_home=False, running=True, ahead=True), []),
    (node(), vm(f.ALONE, copy(f.ALONE, running=True, ahead=True), at_home=False, running=True, ahead=True), ["stop"]),
    (node(), vm(SURVIVOR, copy(FAILED), at_home=False), ["ahead"]),           # the peer's guest writes here alone
    (node(), vm(SURVIVOR, copy(FAILED), at_home=False, ahead=True), []),
    (node(), vm(FAILED, copy(SURVIVOR, ahead=True), running=True), []),
    (node(), vm("Connected Secondary/Secondary UpToDate/Diskless r", copy(), at_home=False), ["ask"]),
    (node(), vm("SyncTarget Secondary/Secondary Inconsistent/UpToDate r"), []),       # the good copy is the peer's
    (node(), vm("SyncSource Secondary/Secondary UpToDate/Inconsistent r", at_home=False), ["start"]),
    (node(), vm(running=True), ["ended"]),                                    # left by a QEMU that was killed
    (node(), vm(f.PEER_PRIMARY, copy(running=True), at_home=False, off=True), ["started"]),
    (node(), vm(f.PEER_PRIMARY, copy(running=True), failed=True), ["started"]),
    (node(f.DEAD), vm(f.APART, copy(running=True), failed=True), []),
    (node(peer={"fit": False, "standby": True}), vm(f.EVEN, copy(off=True), at_home=False), []),  # it wished to be off
    (node(f.DEAD), vm(f.APART, copy(off=True), at_home=False, even=True), ["start"]),
    (node(Links(production=False, ping=False), peer={"fit": False, "told": False}), vm(), []),  # who can serve it?
])
def test_plan(where: NodeFacts, what: VmFacts, expected: list[str]) -> None:
    assert verbs(where, what) == expected


AWAY: dict[str, Any] = {"at_home": False, "running": True}
THERE = copy("Connected Secondary/Primary UpToDate/UpToDate r")
GOES_HOME: dict[str, Any] = {"failback": "migrate"}


@pytest.mark.parametrize(("where", "what", "expected"), [
    (node(**GOES_HOME), vm(f.PRIMARY, THERE, **AWAY), ["send"]),
    (node(), vm(f.PRIMARY, THERE, **AWAY), []),                               # its home is not steady for long enough
    (node(failback="manual"), vm(f.PRIMARY, THERE, **AWAY), []),
    (node(failback="restart"), vm(f.PRIMARY, THERE, **AWAY), ["stop"]),
    (node(failback="restart"), vm(f.PRIMARY, THERE, at_home=False), ["demote"]),       # and is not started here again
    (node(**GOES_HOME), vm(f.PRIMARY, THERE, at_home=True, running=True), []),
    (node(**GOES_HOME), vm(f.PRIMARY, copy(), **AWAY), []),                   # the peer has not said that it is good
    (node(**GOES_HOME), vm(f.PRIMARY, THERE._replace(kept=True), **AWAY), []),          # a person moved it here
    (node(**GOES_HOME), vm(f.PRIMARY, THERE, tried="home", missed="the cable", **AWAY), []),
    (node(**GOES_HOME), vm(f.PRIMARY, THERE, tried="none", missed="the cable", **AWAY), ["tried", "send"]),  # again
    (node(), vm(f.PRIMARY, THERE, tried="home", missed="the cable", **AWAY), ["tried"]),   # and once it is steady
    (node(Links(storage=False), **GOES_HOME), vm(f.PRIMARY, THERE, tried="home", missed="x", **AWAY), ["tried"]),
    (STANDBY, vm(f.PRIMARY, running=True, outgoing="go", tried="home", missed="deaf"), ["migrate", "stop"]),
    (node(**GOES_HOME, maintenance=True), vm(f.PRIMARY, THERE, **AWAY), []),
    (node(Links(ping=False), **GOES_HOME), vm(f.PRIMARY, THERE, **AWAY), []),           # not while anything is wrong
    (node(me={"config": "a"}, peer={"config": "b"}, **GOES_HOME), vm(f.PRIMARY, THERE, **AWAY), []),
    (node(**GOES_HOME), vm("SyncSource Primary/Secondary UpToDate/Inconsistent r", THERE, **AWAY), []),
    (STANDBY, vm(f.PRIMARY, running=True, tried="none", missed="the cable"), ["stop"]),
    (STANDBY, vm(f.PRIMARY, running=True, tried="home", missed="the cable"), ["tried", "send"]),
    (STANDBY, vm(f.PRIMARY, running=True, outgoing="go"), ["migrate"]),
    (STANDBY, vm(f.PRIMARY, running=True, outgoing="go", tried="none", missed="deaf"), ["migrate", "stop"]),
    (STANDBY, vm(f.PRIMARY, running=True, outgoing="over", tried="none", missed="deaf"), ["migrate"]),  # that first
    (STANDBY, vm(f.PRIMARY, copy(incoming="16000"), running=True), []),
    (node(me={"leaving": True}), vm(f.PRIMARY, running=True), ["send"]),
    (node(me={"leaving": True}, peer={"fit": False, "leaving": True}), vm(f.PRIMARY, running=True), []),
    (node(), vm(f.PRIMARY, running=True, tried="none", missed="the cable"), ["tried"]),
    (node(maintenance=True), vm(f.PRIMARY, running=True, tried="none", missed="the cable"), []),  # who knows?
    (node(f.SILENT), vm(f.ALONE, running=True, ahead=True, tried="none", missed="the cable"), ["tried"]),
    (node(), vm(f.PRIMARY, running=True, kept=True), ["back"]),
    # it has gone, its unit has not
    (node(), vm(f.PEER_PRIMARY, copy(running=True), running=True, kept=True), ["ended"]),
    (STANDBY, vm(f.PEER_PRIMARY, copy(running=True), running=True), ["ended"]),
    (node(), vm(f.PRIMARY, running=True, kept=True, outgoing="go"), ["migrate"]),
    (node(), vm("SyncTarget Secondary/Primary Inconsistent/UpToDate r", copy(outgoing="go"), at_home=False), []),
    (node(), vm(f.PEER_PRIMARY, copy(f.PRIMARY, running=True, outgoing="go"), at_home=False), ["take"]),
])
def test_moves(where: NodeFacts, what: VmFacts, expected: list[str]) -> None:
    assert verbs(where, what) == expected


def test_two_at_a_time_in_their_order() -> None:
    """One whose QEMU does not answer keeps no other waiting."""
    names = ["a", "b", "c", "d"]
    vms = [vm(f.PRIMARY, running=True)._replace(name=name) for name in names]

    def sent(*changes: dict[str, Any]) -> list[str]:
        changed = [what._replace(me=what.me._replace(**change)) for what, change in zip(vms, changes, strict=True)]
        return [action.vm for action in plan(decide(STANDBY), STANDBY, changed, 6) if action.verb == "send"]
    going: dict[str, Any] = {"outgoing": "go"}
    assert sent({}, {}, {}, {}) == ["a", "b"]
    assert sent(going, {}, {}, {}) == ["b"]
    assert sent(going, {}, going, {}) == []
    assert sent({**going, "missed": "deaf"}, {}, {}, {}) == ["b", "c"]
