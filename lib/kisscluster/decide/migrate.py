"""A VM moves while it runs: what each side says, and what it makes of the other's word (DESIGN 7).

The sending node says `go`; `gone` once its guest has stopped for good and the peer has its memory; `over` when it is to
run on here. The receiving node starts a guest that waits, and lets it run by two proofs: the word `gone`, and a peer
that is not primary.
"""

from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.quorum import HOME, NONE, Decision
from kisscluster.decide.rules import may_give_up

GO_ON, GONE, OVER = "go", "gone", "over"
LIVE, RESTART = "send", "stop"
AT_ONCE = 2  # while the memory of one is on the cable, the other's QEMU starts or ends; more would only share the cable


def by_itself(decision: Decision, node: NodeFacts, vm: VmFacts) -> bool:
    """Is there a reason for which the cluster moves a VM that runs here to the peer?"""
    home = decision.word == HOME and not decision.alarm and not vm.at_home and not vm.peer.kept
    return decision.word == NONE or home and node.failback not in ("", "manual")


def move(decision: Decision, node: NodeFacts, vm: VmFacts) -> str:
    """How a VM that runs here goes to the peer now: live, by a shutdown here and a boot there, or not at all.

    What cannot be moved live is shut down only where it may not stay, or where somebody asked for that (failback).
    """
    if not by_itself(decision, node, vm) or not may_give_up(node, vm) or vm.moving and vm.me.outgoing != GO_ON:
        return ""
    must = decision.word == NONE
    if not must and not vm.peer.level:
        return ""
    if not must and node.failback == "restart":
        return RESTART
    if not vm.me.missed or vm.me.tried != decision.word and not vm.moving:
        return "" if refusal(node, vm) else LIVE
    return RESTART if must else ""


def turns(vms: list[VmFacts]) -> int:
    """How many more may begin now; one whose QEMU does not answer keeps no other waiting."""
    sent = sum(vm.peer.outgoing == GO_ON or vm.me.outgoing == GO_ON and not vm.me.missed for vm in vms)
    return max(0, AT_ONCE - sent)


def refusal(node: NodeFacts, vm: VmFacts) -> str:
    """Why a VM that runs here cannot be sent to the peer now, or nothing."""
    if node.stale or not node.alive:
        return node.stale or "the peer is silent"
    if vm.moving:
        return "it is being moved already"
    if not may_give_up(node, vm) or vm.frozen:
        return "its disks are not the same on both nodes, or the peer cannot serve it"
    return ""


def broken(node: NodeFacts, vm: VmFacts, arrived: bool = False) -> str:
    """Why a migration that has begun must not go on, on either side, or nothing.

    A guest that has `arrived` may have no memory but here: then only the disks, and the peer's word, end it.
    """
    if node.stale or not node.alive:
        return node.stale or "the peer is silent"
    if not vm.me.level or vm.frozen:
        return "the disks are not connected any more"
    if vm.stopped and not arrived:
        return "a person stopped it"
    if not arrived and not (node.peer.fit if vm.me.outgoing else node.fit):
        return "where it goes it cannot be served"
    if not vm.me.outgoing and vm.peer.outgoing != GO_ON:
        return "the peer gave it up"
    return ""


def port_of(incoming: str) -> tuple[int, bool]:
    """Where a waiting guest listens, and whether it does so yet; 0 for what is no port, whoever said it."""
    port, _, state = incoming.partition(" ")
    return (int(port) if port.isdecimal() and 1024 <= int(port) <= 65535 else 0), state == "ready"


def handed_over(vm: VmFacts) -> bool:
    """May a guest with the peer's memory run here? Then the peer's has stopped for good, and cannot write."""
    drbd = vm.me.drbd
    return vm.peer.outgoing == GONE and drbd is not None and drbd.writable and drbd.peer_role != "Primary"


def settled(node: NodeFacts, vm: VmFacts) -> bool:
    """Is the other side done, so that the window of two primaries can be closed?"""
    both = vm.primary and vm.me.drbd is not None and vm.me.drbd.peer_role == "Primary"
    return not node.stale and not both and not (node.alive and vm.peer.incoming)


def at_work(node: NodeFacts, vm: VmFacts) -> str:
    """Why kc-migrate must run here, or nothing; while it does, the tick's request for it changes nothing."""
    if vm.me.outgoing:
        return f"it is handed over: {vm.me.outgoing}"
    if vm.me.incoming:
        return "it is taken over"
    return ""


def offered(node: NodeFacts, vm: VmFacts) -> bool:
    """Does the peer wait for us to take it over?"""
    idle = not (vm.me.running or vm.me.outgoing or vm.me.incoming)
    return idle and node.alive and vm.peer.outgoing == GO_ON and not broken(node, vm)
