"""What kc-fence-peer answers DRBD; asked anew until there is an answer."""

from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.rules import by_word, may_go_alone, overtaken

WAIT, RESET, OVER, REFUSED = -1, -2, -3, 1
OUTDATED, UNREACHABLE, STONITHED = 4, 5, 7


def answer(node: NodeFacts, vm: VmFacts, promoting: bool) -> int:
    """An exit code of DRBD's fence-peer contract (FACTS 1.4), or WAIT, RESET, OVER for a frozen primary."""
    if not promoting and vm.me.drbd is not None and not vm.frozen:
        return OVER
    if overtaken(node, vm):
        return REFUSED if promoting else RESET
    if may_go_alone(node, vm):
        return permission(node, vm)
    return REFUSED if promoting else WAIT


def permission(node: NodeFacts, vm: VmFacts) -> int:
    """How the leave to go alone is told to DRBD.

    A copy that is only Consistent (after a reboot) is never promoted by somebody's death (FACTS 1.6 H4); 4 is true
    for it when the mark `ahead`, kept on disk, or the peer's word says that the peer's copy is behind ours.
    """
    consistent = vm.me.drbd is not None and vm.me.drbd.disk == "Consistent"
    if by_word(node, vm) or consistent and vm.me.ahead:
        return OUTDATED
    return STONITHED if node.proven and not consistent else UNREACHABLE
