"""Go alone, give up, promote, answer the kernel: every rule marked (*) has its counterexample here."""

import pytest

from kisscluster.decide import fence, promote
from kisscluster.decide.facts import Links, NodeFacts, VmFacts
from kisscluster.decide.fence import answer
from kisscluster.decide.promote import verdict
from kisscluster.decide.rules import belongs_here, may_give_up, may_go_alone, may_part, overtaken, waits_for_proof
from tests.unit import facts as f
from tests.unit.facts import copy, node, vm

FAILED = "Connected Secondary/Secondary Diskless/UpToDate r"
PEER_FAILED = "Connected Secondary/Secondary UpToDate/Diskless r"
BROKEN = Links(storage=False, production=False, trace=False, unbroken=False)


@pytest.mark.parametrize(("where", "what", "yes"), [
    (node(f.DEAD), vm(f.APART, even=True), True),
    (node(f.DEAD), vm(f.APART), False),                                   # storage cut, later the peer dies
    (node(BROKEN), vm(f.APART, even=True), False),                        # woke up beside a peer that died
    (node(f.SILENT), vm(f.APART, even=True), False),                      # only its heartbeat is dead
    (node(f.ISOLATED), vm(f.APART, even=True), False),                    # it is I who is cut off
    (node(f.DEAD, fence=True), vm(f.APART, even=True), False),            # a fence command must say so first
    (node(f.DEAD, fence=True, proven=True), vm(f.APART, even=True), True),
    (node(f.DEAD), vm(f.APART, even=True, yields=True), False),           # I gave my word
    (node(), vm(f.APART, copy(yields=True)), True),
    (node(), vm(f.APART, copy(yields=True), yields=True), False),
    (node(f.DEAD), vm(f.APART, copy(yields=True)), False),                # a dead peer's word is no word
    (node(), vm(f.APART, even=True), False),
    (node(f.ISOLATED), vm(f.APART, ahead=True), True),                    # the last survivor, rebooted
    (node(stale="no heartbeat"), vm(f.APART, ahead=True), False),
    (node(Links(starting=True)), vm(f.APART, ahead=True), False),
])
def test_alone(where: NodeFacts, what: VmFacts, yes: bool) -> None:
    assert may_go_alone(where, what) is yes


@pytest.mark.parametrize(("where", "what", "yes"), [
    (node(), vm(f.PRIMARY), True),
    (node(peer={"fit": False}), vm(f.PRIMARY), False),
    (node(me={"config": "a"}, peer={"config": "b"}), vm(f.PRIMARY), False),
    (node(f.SILENT), vm(f.PRIMARY), False),
    (node(), vm(f.ALONE), False),
    (node(), vm("SyncSource Primary/Secondary UpToDate/Inconsistent r"), False),
])
def test_give_up(where: NodeFacts, what: VmFacts, yes: bool) -> None:
    assert may_give_up(where, what) is yes


@pytest.mark.parametrize(("word", "what", "yes"), [
    ("all", vm(at_home=False), True), ("none", vm(), False), ("hold", vm(), False),
    ("home", vm(), True), ("home", vm(at_home=False), False),
    ("home", vm(f.APART, copy(ahead=True)), False), ("home", vm(f.APART, ahead=True, at_home=False), True),
    ("home", vm(f.APART, copy(ahead=True), ahead=True), True),
    ("home", vm(None), True), ("home", vm(None, copy(ahead=True)), False),
    # connected: the good copy, whatever the marks of yesterday say (*5)
    ("home", vm("SyncTarget Secondary/Secondary Inconsistent/UpToDate r"), False),
    ("home", vm("SyncSource Secondary/Secondary UpToDate/Inconsistent r", at_home=False), True),
    ("home", vm(PEER_FAILED, at_home=False), True), ("home", vm(FAILED), False),
    ("home", vm(f.EVEN, copy(ahead=True)), True), ("home", vm(f.EVEN, ahead=True, at_home=False), False),
    ("home", vm("Connected Secondary/Secondary Diskless/Diskless r"), True),
    ("all", vm("SyncTarget Secondary/Secondary Inconsistent/UpToDate r"), True),
    ("none", vm(PEER_FAILED), False), ("hold", vm(PEER_FAILED), False),
])
def test_belongs(word: str, what: VmFacts, yes: bool) -> None:
    assert belongs_here(word, what) is yes


@pytest.mark.parametrize(("what", "yes"), [
    (vm(f.ALONE, running=True), False),            # a planned reboot of the peer: it runs on here
    (vm(f.ALONE.removesuffix("r") + "s", running=True), True),
    (vm(f.APART), True), (vm(None), True), (vm(f.APART, running=True), True),
    (vm(f.APART, stopped=True), False), (vm(f.APART, off=True), False), (vm(f.APART, failed=True), False),
])
def test_who_waits_for_a_proof(what: VmFacts, yes: bool) -> None:
    assert waits_for_proof(what) is yes


@pytest.mark.parametrize(("where", "what", "word"), [
    (node(), vm(f.PRIMARY), promote.DONE),
    (node(), vm(), promote.GO),
    (node(), vm(f.PEER_PRIMARY), promote.REFUSE),
    (node(), vm(f.EVEN, copy("WFConnection Primary/Unknown UpToDate/DUnknown s")), promote.REFUSE),
    (node(stale="dead"), vm(), promote.WAIT),
    (node(), vm(None), promote.WAIT),
    (node(f.DEAD), vm(f.OUTDATED, even=True), promote.STALE_COPY),
    (node(f.DEAD), vm("WFConnection Secondary/Unknown Inconsistent/DUnknown r", ahead=True), promote.STALE_COPY),
    (node(f.DEAD), vm(f.APART, even=True), promote.GO_ALONE),
    (node(), vm(f.APART), promote.CLAIM),
    (node(), vm(f.APART, copy(f.FROZEN)), promote.REFUSE),
    (node(), vm(f.APART, copy(f.APART, ahead=True)), promote.WAIT),
    (node(f.DEAD), vm(f.APART), promote.CLAIM),
    (node(), vm(f.APART, ahead=True), promote.CLAIM),                      # what the living peer does is not known
    (node(), vm(f.APART, copy(f.APART), ahead=True), promote.GO_ALONE),
    (node(), vm(f.APART, copy(f.ALONE, ahead=True), ahead=True), promote.REFUSE),
    # beside a failed disk the kernel compares nothing: a copy of last week is UpToDate there
    (node(), vm(PEER_FAILED, copy(FAILED, ahead=True)), promote.WAIT),
    (node(), vm(PEER_FAILED), promote.WAIT),                               # is it? it has not said yet
    (node(), vm(PEER_FAILED, copy(FAILED)), promote.GO),                   # it failed while both were the same
    (node(), vm(PEER_FAILED, copy(FAILED, ahead=True), ahead=True), promote.GO),
    (node(), vm(FAILED, copy(PEER_FAILED), ahead=True), promote.WAIT),
    (node(), vm(FAILED, copy(PEER_FAILED, ahead=True)), promote.GO),
])
def test_promotion(where: NodeFacts, what: VmFacts, word: str) -> None:
    assert verdict(where, what).word == word


@pytest.mark.parametrize(("where", "what", "promoting", "code"), [
    (node(), vm(f.FROZEN, copy(yields=True)), False, 4),
    (node(f.DEAD), vm(f.FROZEN, even=True), False, 5),
    (node(f.DEAD, fence=True, proven=True), vm(f.FROZEN, even=True), False, 7),
    (node(), vm(f.FROZEN), False, fence.WAIT),
    (node(f.ISOLATED), vm(f.FROZEN, even=True), False, fence.WAIT),
    (node(), vm(f.FROZEN, copy(ahead=True)), False, fence.RESET),
    (node()._replace(stale="silent"), vm(f.FROZEN, copy(ahead=True)), False, fence.WAIT),  # an old word resets nobody
    (node(f.ISOLATED), vm(f.FROZEN, copy(ahead=True)), False, fence.WAIT),      # its last word: it must speak
    (node(), vm(f.FROZEN, copy(ahead=True), ahead=True), False, 5),
    (node(), vm(f.ALONE), False, fence.OVER),
    (node(), vm(f.PRIMARY), False, fence.OVER),
    (node(f.DEAD), vm(f.APART, even=True), True, 5),
    (node(), vm(f.APART, copy(ahead=True)), True, 1),
    (node(), vm(f.APART), True, 1),
    (node(f.DEAD), vm(f.CONSISTENT), True, 1),
    (node(f.DEAD), vm(f.CONSISTENT, ahead=True), True, 4),
    (node(f.DEAD, fence=True, proven=True), vm(f.CONSISTENT, ahead=True), True, 4),   # never 7 for Consistent
])
def test_fence_peer(where: NodeFacts, what: VmFacts, promoting: bool, code: int) -> None:
    assert answer(where, what, promoting) == code


def test_never_six() -> None:
    """6 would spoil our copy when the peer's may be lost next."""
    for where in (node(), node(f.DEAD), node(f.ISOLATED), node(f.SILENT)):
        for mine in (f.FROZEN, f.APART, f.CONSISTENT, f.OUTDATED):
            for peer in (copy(), copy(f.PRIMARY, ahead=True), copy(yields=True)):
                for promoting in (True, False):
                    assert answer(where, vm(mine, peer), promoting) != 6


def test_overtaken_needs_a_living_peer() -> None:
    assert overtaken(node(), vm(f.FROZEN, copy(ahead=True)))
    assert not overtaken(node(f.DEAD), vm(f.FROZEN, copy(ahead=True)))
    assert not overtaken(node(), vm(f.FROZEN, copy(ahead=True), ahead=True))


@pytest.mark.parametrize(("where", "what", "yes"), [
    (node(), vm(f.PEER_PRIMARY), True),
    (node(), vm(f.PEER_PRIMARY, ahead=True), False),                          # both would stay ahead, and apart
    (node(), vm(f.PRIMARY), False),
    (node(), vm(f.EVEN), False),
    (node(), vm("SyncTarget Secondary/Primary Inconsistent/UpToDate r"), False),
    (node(), vm(None), False),
    (node(peer={"leaving": True}), vm(f.PEER_PRIMARY), False),
    (node(f.DEAD, stale="no heartbeat"), vm(f.PEER_PRIMARY), False),
])
def test_part_before_a_shutdown(where: NodeFacts, what: VmFacts, yes: bool) -> None:
    assert may_part(where, what) is yes
