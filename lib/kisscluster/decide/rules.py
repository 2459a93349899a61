"""The two rules that bound every decision (give up, go alone), and where one VM belongs."""

from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.quorum import ALL, HOLD, NONE
from kisscluster.decide.words import BAD


def may_give_up(node: NodeFacts, vm: VmFacts) -> bool:
    """A running VM is stopped by us only while both copies are good and the peer can run it (DESIGN 3, *)."""
    return vm.me.level and node.alive and node.peer.fit and not node.conflict


def may_part(node: NodeFacts, vm: VmFacts) -> bool:
    """Before our shutdown our copy is called outdated, so that no write of the peer's guest waits for that; where the
    peer leaves, too, its guest ends soon."""
    drbd = vm.me.drbd
    if drbd is None or node.stale or node.peer.leaving:
        return False
    return drbd.even and not drbd.primary and drbd.peer_role == "Primary" and not vm.me.ahead


def by_word(node: NodeFacts, vm: VmFacts) -> bool:
    """The peer gave its word that its copy will not go on, and I did not give mine."""
    return node.alive and vm.peer.yields and not vm.me.yields


def by_death(node: NodeFacts, vm: VmFacts) -> bool:
    """The peer is off, and nobody but me can have gone on since both copies were the same."""
    return node.dead and node.links.unbroken and vm.me.even and not vm.me.yields


def may_go_alone(node: NodeFacts, vm: VmFacts) -> bool:
    """alone(VM) of DESIGN 3; a node whose own heartbeat is stale or that stood still knows nothing."""
    if node.stale or node.links.starting:
        return False
    return vm.me.ahead or by_word(node, vm) or by_death(node, vm)


def overtaken(node: NodeFacts, vm: VmFacts) -> bool:
    """The peer went on without us, by a word that is not old: what we hold frozen must never be written."""
    return not node.stale and node.alive and vm.peer.ahead and not vm.me.ahead


def only_by_failure(vm: VmFacts) -> bool:
    """Beside a failed disk the kernel compares nothing and calls any copy good: is it, by what both nodes say (*25)?"""
    drbd = vm.me.drbd
    if drbd is None or not drbd.connected:
        return False
    unknown = vm.peer.drbd is None
    if drbd.peer_disk in BAD:
        return not vm.me.ahead and (unknown or vm.peer.ahead)
    return drbd.disk in BAD and (unknown or vm.me.ahead and not vm.peer.ahead)


def waits_for_proof(vm: VmFacts) -> bool:
    """Is there something to gain by proving the peer off? After a planned leave everything runs here, and nothing is
    frozen: a machine that boots is not fenced."""
    return vm.frozen or not (vm.me.running and vm.primary or vm.down)


def belongs_here(word: str, vm: VmFacts) -> bool:
    """Where a VM should run by this decision; at home, unless only one of the copies is good (*5)."""
    if word in (NONE, HOLD):
        return False
    if word == ALL:
        return True
    drbd = vm.me.drbd
    if drbd is not None and drbd.connected:
        mine, peers = drbd.disk == "UpToDate", drbd.peer_disk == "UpToDate"
    else:
        mine, peers = vm.me.ahead, vm.peer.ahead
    return mine if mine != peers else vm.at_home
