"""What is done for a VM by a decision."""

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
    (STANDBY, vm(f.PRIMARY, running=True), ["stop"]),
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
