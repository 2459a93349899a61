"""From a decision to what must be done for each VM; facts in, a list of actions out."""

from __future__ import annotations

from typing import NamedTuple

from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.migrate import GO_ON, GONE, LIVE, at_work, by_itself, move, offered, turns
from kisscluster.decide.promote import CLAIM, may_promote, verdict
from kisscluster.decide.quorum import HOLD, NONE, Decision
from kisscluster.decide.rules import belongs_here

START, STOP, DEMOTE, OUTDATE, ADJUST, MIGRATE = "start", "stop", "demote", "outdate", "adjust", "migrate"
SEND, TAKE, TRIED, BACK = LIVE, "take", "tried", "back"
ASK, RELEASE, CLEAR, AHEAD, LEVEL = "ask", "release", "clear", "ahead", "level"
MENDED, ENDED, STARTED, WAIT = "mended", "ended", "started", "wait"


class Action(NamedTuple):
    """One thing to do for one VM, and why.

    start, stop, demote, outdate, adjust, migrate, take: a unit's job. ask, wait: say what the VM waits for.
    send: ask for a migration, as a person does. ahead: set the mark.
    release, clear, level, mended, ended, started, tried, back: drop claim, pending, ahead, split-brain, running,
    failed and off, missed, kept.
    """

    verb: str
    vm: str
    reason: str


def plan(decision: Decision, node: NodeFacts, vms: list[VmFacts], patience: float) -> list[Action]:
    """All actions, VMs in their order; `patience`: seconds a freeze may last without a handler."""
    out: list[Action] = []
    left = turns(vms)
    for vm in vms:
        out += _bookkeeping(decision, node, vm)
        out += _storage(decision, node, vm, patience)
        if why := at_work(node, vm):
            out.append(Action(MIGRATE, vm.name, why))
        for action in _guest(decision, node, vm):
            left -= action.verb == SEND
            out += [action] if action.verb != SEND or left >= 0 else []
    return out


def _bookkeeping(decision: Decision, node: NodeFacts, vm: VmFacts) -> list[Action]:
    mine = vm.me.drbd
    out = []
    both_even = vm.me.level and vm.peer.level
    if mine is not None and mine.only_copy and not vm.me.ahead:
        out.append(Action(AHEAD, vm.name, "it is written here and not on the peer, and the kernel asked nobody"))
    if vm.me.ahead and both_even:
        out.append(Action(LEVEL, vm.name, "both copies are the same again"))
    if vm.me.ahead and mine is not None and mine.disk == "Inconsistent":
        out.append(Action(LEVEL, vm.name, "this copy is being resynced from the peer's"))
    if vm.split and both_even:
        out.append(Action(MENDED, vm.name, "both copies are the same again"))
    waits = decision.word == HOLD and node.alive  # a new peer is a new try
    stands = vm.me.running and vm.me.tried == decision.word and by_itself(decision, node, vm)
    if vm.me.tried and not (waits or vm.moving or stands):
        out.append(Action(TRIED, vm.name, "what it was to move for is over"))
    if vm.me.kept and vm.me.running and vm.primary and not vm.moving:
        out.append(Action(BACK, vm.name, "it is at home"))
    if (vm.me.failed or vm.me.off) and node.alive and vm.peer.running:
        out.append(Action(STARTED, vm.name, "it was started on the peer"))
    if vm.me.running and mine is not None and not mine.primary:
        out.append(Action(ENDED, vm.name, "nothing runs on a secondary disk"))
    asks = vm.frozen or wanted(decision, vm) and verdict(node, vm).word == CLAIM
    if vm.me.claim and not asks and not vm.handler:
        out.append(Action(RELEASE, vm.name, "nothing is asked of the peer any more"))
    if vm.pending and (vm.primary or not wanted(decision, vm)):
        out.append(Action(CLEAR, vm.name, "it waits no longer"))
    return out


def wanted(decision: Decision, vm: VmFacts) -> bool:
    """Should it run here, by the decision and by what people and the guest said?"""
    return belongs_here(decision.word, vm) and not vm.down


def _storage(decision: Decision, node: NodeFacts, vm: VmFacts, patience: float) -> list[Action]:
    mine, peer = vm.me.drbd, vm.peer.drbd
    if node.stale:
        return []
    if vm.deaf and vm.drbd_age >= patience:
        return [Action(ADJUST, vm.name, "frozen, and no fence handler is at work")]
    if node.maintenance:
        return []
    if mine is None:
        return [Action(ADJUST, vm.name, "its DRBD resource is not up here")]
    if mine.connection == "StandAlone" and may_reconnect(node, vm):
        return [Action(ADJUST, vm.name, "StandAlone, and the peer is there")]
    gone_on = node.alive and peer is not None and peer.primary and not peer.connected
    if vm.me.yields and gone_on and not vm.me.ahead and not vm.primary and mine.disk in ("UpToDate", "Consistent"):
        return [Action(OUTDATE, vm.name, "the peer goes on without this copy, by our word")]
    if orphan(decision, node, vm):
        return [Action(DEMOTE, vm.name, "primary here, and nothing runs on it")]
    return []


def orphan(decision: Decision, node: NodeFacts, vm: VmFacts) -> bool:
    """A primary disk that nothing runs on, and nothing is about to."""
    busy = vm.me.running or vm.me.incoming or vm.frozen
    return vm.primary and not busy and not keeps(decision, node, vm)


def keeps(decision: Decision, node: NodeFacts, vm: VmFacts) -> bool:
    """Is a primary disk without a guest about to get one? While on hold, whatever is half done is finished."""
    leaves = decision.word == NONE or node.alive and vm.peer.running or move(decision, node, vm) == STOP
    return not vm.down and (decision.word == HOLD or not leaves)


def may_reconnect(node: NodeFacts, vm: VmFacts) -> bool:
    """A StandAlone resource is connected again unless that could only meet a split brain (DESIGN 7)."""
    both_primary = vm.primary and vm.peer.drbd is not None and vm.peer.drbd.primary
    return node.alive and not both_primary and not vm.split and not (vm.me.ahead and vm.peer.ahead)


def _guest(decision: Decision, node: NodeFacts, vm: VmFacts) -> list[Action]:
    if vm.me.running:
        return _running(decision, node, vm) if vm.primary else []  # the mark alone may be left from before it went
    if offered(node, vm):
        return [Action(TAKE, vm.name, "the peer hands it over while it runs")]
    if vm.me.incoming or vm.me.outgoing or vm.down or vm.frozen or vm.me.drbd is None:
        return []
    if vm.primary:
        return [Action(START, vm.name, "its disk is primary here")] if keeps(decision, node, vm) else []
    if not wanted(decision, vm) or node.stale or node.alive and (vm.peer_primary or vm.peer.off):
        return []
    if may_promote(node, vm):
        return [Action(START, vm.name, f"it belongs here: {decision.reason}")]
    return [Action(ASK, vm.name, verdict(node, vm).reason)]


def _running(decision: Decision, node: NodeFacts, vm: VmFacts) -> list[Action]:
    if vm.stopped:
        return [Action(STOP, vm.name, "a person stopped it")]
    if vm.me.outgoing == GONE or vm.peer.outgoing or vm.me.outgoing == GO_ON and not vm.me.missed:
        return []  # kc-migrate sees to it that it ends on one of the nodes
    newest = vm.me.ahead and not vm.peer.ahead  # the peer was overtaken, and resets itself
    if vm.peer.running and vm.peer_primary and node.alive and not vm.at_home and not newest:
        return [Action(STOP, vm.name, "it runs on both nodes, and the peer is its home")]
    how = move(decision, node, vm)
    why = decision.reason if decision.word == NONE else "its home is well again"
    why += f"; it did not go live: {vm.me.missed}" if how == STOP and vm.me.missed else ""
    return [Action(how, vm.name, why)] if how else []
