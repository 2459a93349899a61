"""What is not as it should be, with the command that a person could type."""

from __future__ import annotations

from typing import NamedTuple

from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.promote import may_promote
from kisscluster.decide.quorum import Decision
from kisscluster.decide.rules import may_go_alone, only_by_failure
from kisscluster.decide.words import BAD


class Wrong(NamedTuple):
    """`about`: a VM, or the pair; `command` may be empty: then there is nothing to type but to wait."""

    about: str
    text: str
    command: str = ""


HALF_FENCED = Wrong("pair", "only one of the nodes has a fence command: that protects nothing; set it for both or none")


def pair(node: NodeFacts, decision: Decision) -> list[Wrong]:
    """What is wrong with the pair as a whole."""
    if node.stale:
        return [Wrong("pair", node.stale, "systemctl restart kc-heartbeat.service")]
    out = []
    if decision.stale or decision.alarm:
        out.append(Wrong("pair", decision.reason))
    if node.alive and not node.peer.fit and not decision.alarm:
        out.append(Wrong("pair", "the peer does not say that it can serve VMs"))
    if node.maintenance:
        out.append(Wrong("pair", "maintenance is on", "kc-maintenance off"))
    if node.fence != node.me_fence:
        out.append(HALF_FENCED)
    if node.me.standby:
        out.append(Wrong("pair", "this node is in standby", "kc-standby off"))
    return out


def where(node: NodeFacts, vm: VmFacts) -> str:
    """here, peer, both or nowhere, by the facts; a silent peer's last word tells nothing."""
    there = vm.peer.running and node.alive
    return "both" if vm.me.running and there else "here" if vm.me.running else "peer" if there else "nowhere"


def state_dir(name: str, kind: str = "ahead") -> str:
    return f"/var/lib/kisscluster/{kind}/{name}"


def accept_loss(vm: VmFacts) -> str:
    """How a human promotes a copy that may be stale: first the mark that it went on alone, then the force."""
    mark = f"touch {state_dir(vm.name)}"
    if vm.me.drbd is not None and vm.me.drbd.disk in ("Outdated", "Inconsistent"):
        mark += f" && drbdadm primary --force {vm.name}"
    # a frozen primary has its guest already, and its handler sees the mark
    return mark if vm.primary else f"{mark} && kc-vm-start {vm.name}"


def _waits_for_a_human(node: NodeFacts, vm: VmFacts, text: str) -> Wrong:
    if vm.me.drbd is not None and vm.me.drbd.disk in BAD:
        return Wrong(vm.name, f"{text}its disk here has failed: the peer's copy is needed")
    if not node.dead:
        return Wrong(vm.name, f"{text}the peer may be running it; once it is off for sure", "kc-fence --confirm")
    return Wrong(vm.name, f"{text}switch the peer on, or accept the loss of what it wrote", accept_loss(vm))


def machine(node: NodeFacts, vm: VmFacts, pending: str) -> list[Wrong]:
    """What is wrong with one VM; a VM that a person stopped and one away from home are as they should be."""
    out = [*_copies(node, vm)]
    place = where(node, vm)
    if place == "both":
        out.append(Wrong(vm.name, "runs on both nodes; where it is not at home", f"systemctl stop kc-vm@{vm.name}"))
    for runs, copy, there in (("here", vm.me, ""), ("peer", vm.peer, "; type there")):
        if place == runs and copy.missed:
            out.append(Wrong(vm.name, f"was not moved while it runs: {copy.missed}{there}", f"kc-migrate {vm.name}"))
    if place != "nowhere" or vm.stopped or node.stale:
        return out
    return out + [_down(node, vm, pending)]


def _down(node: NodeFacts, vm: VmFacts, pending: str) -> Wrong:
    drbd = vm.me.drbd
    for copy, there in ((vm.me, ""), (vm.peer, " on the peer; type there")):
        if copy.failed and (node.alive or not there):
            command = f"journalctl -u kc-vm@{vm.name}; kc-vm-start {vm.name}"
            return Wrong(vm.name, f"not running: its QEMU failed again and again{there}", command)
        if copy.off and (node.alive or not there):
            return Wrong(vm.name, f"not running: the guest switched itself off{there}", f"kc-vm-start {vm.name}")
    if drbd is not None and not drbd.connected and not vm.primary and _alone(node) and not may_promote(node, vm):
        text = f"not running: {pending or 'not connected'}; the copy here is {drbd.disk} and may be stale: "
        return _waits_for_a_human(node, vm, text)
    if drbd is not None and drbd.peer_disk in BAD and vm.peer.ahead and only_by_failure(vm):
        text = "not running: the peer's disk failed with data that is not here; mend it, or accept the loss of that"
        return Wrong(vm.name, text, accept_loss(vm))
    idle = "nothing is started while maintenance is on" if node.maintenance else "it is about to start"
    return Wrong(vm.name, f"not running: {pending or idle}")


def _alone(node: NodeFacts) -> bool:
    """The peer is silent, and this node has listened for long enough to say so."""
    return not node.alive and not node.stale and not node.links.starting


def _copies(node: NodeFacts, vm: VmFacts) -> list[Wrong]:
    drbd = vm.me.drbd
    if node.stale:
        return []
    if drbd is None:
        return [Wrong(vm.name, "its DRBD resource is not up here", f"kc-adjust -v {vm.name}")]
    if vm.split or vm.me.ahead and vm.peer.ahead:
        return _split_brain(vm)
    if drbd.even:
        return []
    for copy, there in ((vm.me, ""), (vm.peer, "; type there")):
        if node.alive and copy.ahead and copy.drbd is not None and copy.drbd.disk == "Outdated":
            text = "a copy that went on alone is older, says DRBD; until a human chooses nothing is done: to give"
            return [Wrong(vm.name, f"{text} it up{there}", f"rm {state_dir(vm.name)}")]
    text = f"disks are {drbd.connection} {drbd.disk}/{drbd.peer_disk}"
    if not drbd.frozen:
        return [Wrong(vm.name, text)]
    if drbd.connected or not _alone(node) or may_go_alone(node, vm):
        return [Wrong(vm.name, f"{text}, its writes are frozen")]
    return [_waits_for_a_human(node, vm, f"{text}, its writes are frozen: ")]


def _split_brain(vm: VmFacts) -> list[Wrong]:
    mark = f"rm -f {state_dir(vm.name, 'split-brain')}"
    # maintenance, or the tick would start the guest again and set the mark; kc-vm-stop stops the good copy's too
    discard = f"kc-maintenance on; systemctl stop kc-vm@{vm.name}; drbdadm secondary {vm.name}"
    discard += f"; drbdadm disconnect {vm.name}; {mark} {state_dir(vm.name)}; "
    discard += f"drbdadm connect --discard-my-data {vm.name}; kc-maintenance off"
    text = "split brain: both copies were written to; on the node whose copy is to be thrown away"
    return [
        Wrong(vm.name, text, discard),
        Wrong(vm.name, "and on the node whose copy is to be kept", f"{mark}; drbdadm connect {vm.name}"),
    ]
