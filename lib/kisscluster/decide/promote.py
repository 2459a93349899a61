"""May this node become primary for a VM? Asked anew from the facts each time."""

from typing import NamedTuple

from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.migrate import GO_ON
from kisscluster.decide.rules import may_go_alone, only_by_failure

DONE, REFUSE, GO, GO_ALONE = "done", "refuse", "go", "go-alone"
CLAIM, STALE_COPY, WAIT = "claim", "stale-copy", "wait"


class Verdict(NamedTuple):
    word: str
    reason: str


def verdict(node: NodeFacts, vm: VmFacts) -> Verdict:
    """The first line that fits; only go and go-alone lead to `drbdadm primary`."""
    drbd = vm.me.drbd
    if vm.primary:
        return Verdict(DONE, "already primary here")
    if node.stale or node.links.starting:
        return Verdict(WAIT, node.stale or "the heartbeat is starting, or this node stood still a moment ago")
    if drbd is None:
        return Verdict(WAIT, "its DRBD resource is not up here")
    return _together(vm) if drbd.connected else _apart(node, vm, drbd.disk)


def _together(vm: VmFacts) -> Verdict:
    if vm.peer_primary:
        if vm.me.incoming and vm.peer.outgoing == GO_ON:
            return Verdict(GO, "the peer hands it over while it runs")
        return Verdict(REFUSE, "the peer is primary")
    if only_by_failure(vm):
        why = "data that no other has" if vm.peer.drbd is not None else "what the peer has not told yet"
        return Verdict(WAIT, f"a disk failed with {why}")
    return Verdict(GO, "connected, the peer is secondary")


def _apart(node: NodeFacts, vm: VmFacts, disk: str) -> Verdict:
    """A living peer must have spoken since the last change here: it may be primary, or ahead too (*)."""
    if disk not in ("UpToDate", "Consistent"):
        return Verdict(STALE_COPY, f"not connected, and the copy here is {disk}")
    if vm.peer_primary and node.alive:
        return Verdict(REFUSE, "not connected, and the peer says that it is primary")
    heard = not node.alive or vm.peer.yields or vm.peer.drbd is not None
    if heard and may_go_alone(node, vm):
        return Verdict(GO_ALONE, "not connected, and nobody else can have newer data")
    if vm.peer.ahead:
        return Verdict(WAIT, "not connected, and the peer went on without this copy")
    return Verdict(CLAIM, f"not connected{_why_not(node, vm)}")


def may_promote(node: NodeFacts, vm: VmFacts) -> bool:
    """Would kc-promote try?"""
    return verdict(node, vm).word in (DONE, GO, GO_ALONE)


def _why_not(node: NodeFacts, vm: VmFacts) -> str:
    """Which of the grounds for going alone is missing (rules.by_word, rules.by_death)."""
    if node.alive:
        return "; asked the peer for its word"
    if not node.dead:
        return ", and the peer is not known to be off"
    if vm.me.yields:
        why = "the peer was permitted to go on alone before it died"
    elif not node.links.unbroken:
        why = "this node stood still or was cut off before the peer died"
    else:
        why = "the copies were not the same when the peer died"
    return f"; {why}: the peer may have newer data"
