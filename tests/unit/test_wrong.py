"""What kc-status says is wrong, and what it tells a person to type."""

import pytest

from kisscluster.decide import wrong
from kisscluster.decide.facts import Copy, Links, NodeFacts, VmFacts
from kisscluster.decide.quorum import decide
from tests.unit import facts as f
from tests.unit.facts import copy, node, vm

STARTING = Links(storage=False, production=False, trace=False, ping=False, starting=True)
FAILED_FROZEN = "WFConnection Primary/Unknown Diskless/DUnknown s"
MARK = "touch /var/lib/kisscluster/ahead/web1"
ALL = (node(), node(f.DEAD), node(f.ISOLATED), node(f.SILENT))


def said(where: NodeFacts, what: VmFacts, pending: str = "") -> list[tuple[str, str]]:
    return [(item.text, item.command) for item in wrong.machine(where, what, pending)]


def test_healthy() -> None:
    assert said(node(), vm(f.PRIMARY, running=True)) == []
    assert said(node(), vm(stopped=True)) == []
    assert wrong.pair(node(), decide(node())) == []


def test_no_loss_is_accepted_while_nothing_can_be_known() -> None:
    """Just booted: the peer is silent because nobody has listened yet."""
    for where in (node(STARTING), node(f.DEAD, stale="no heartbeat")):
        for line in (f.CONSISTENT, f.FROZEN):
            assert not [command for _, command in said(where, vm(line)) if command], (where, line)


@pytest.mark.parametrize(("where", "what", "command"), [
    (node(f.DEAD), vm(f.FROZEN, running=True), MARK),                        # its guest is there, its handler waits
    (node(f.ISOLATED), vm(f.FROZEN, running=True), "kc-fence --confirm"),
    (node(f.DEAD), vm(f.FROZEN, running=True, even=True), ""),               # about to go on
    (node(), vm(f.FROZEN, running=True), ""),                                # the peer is there to give its word
    (node(f.DEAD), vm(f.CONSISTENT), f"{MARK} && kc-vm-start web1"),
    (node(f.SILENT), vm(f.CONSISTENT), "kc-fence --confirm"),
    (node(f.DEAD), vm(f.OUTDATED), f"{MARK} && drbdadm primary --force web1 && kc-vm-start web1"),
])
def test_who_waits_for_a_human_says_for_what(where: NodeFacts, what: VmFacts, command: str) -> None:
    assert said(where, what)[-1][1] == command


@pytest.mark.parametrize("where", ALL)
@pytest.mark.parametrize("line", [FAILED_FROZEN, "WFConnection Secondary/Unknown Diskless/DUnknown r"])
def test_a_failed_disk_is_never_to_be_accepted(where: NodeFacts, line: str) -> None:
    """There is nothing on it to go on with; the mark would make a mended, stale copy the good one."""
    assert not [command for _, command in said(where, vm(line)) if MARK in command]


@pytest.mark.parametrize(("what", "where"), [
    (vm(f.OUTDATED, ahead=True), "give it up"),
    (vm(f.APART, copy(f.OUTDATED, ahead=True)), "give it up; type there"),
])
def test_refused_resync_is_a_humans_choice(what: VmFacts, where: str) -> None:
    text, command = said(node(), what)[0]
    assert text.endswith(where)
    assert command == "rm /var/lib/kisscluster/ahead/web1"
    assert command not in [typed for _, typed in said(node(f.DEAD), what)], "a silent peer's last word chooses nothing"


def test_old_copy_beside_a_failed_disk() -> None:
    old = vm("Connected Secondary/Secondary UpToDate/Diskless r", copy(f.EVEN, ahead=True))
    text, command = said(node(), old)[-1]
    assert "the peer's disk failed with data that is not here" in text
    assert command == f"{MARK} && kc-vm-start web1"


@pytest.mark.parametrize(("mine", "peers"), [(copy(f.EVEN, failed=True), copy(f.EVEN, failed=True)),
                                             (copy(f.EVEN, off=True), copy(f.EVEN, off=True))])
def test_failed_and_off_are_told_on_both_nodes(mine: Copy, peers: Copy) -> None:
    ((text, command),) = said(node(), vm()._replace(me=mine))
    assert command.endswith("kc-vm-start web1") and "on the peer" not in text
    ((text, command),) = said(node(), vm()._replace(peer=peers))
    assert command.endswith("kc-vm-start web1") and text.endswith("on the peer; type there")
    assert "type there" not in said(node(f.DEAD), vm(f.APART, peers))[-1][0]          # it cannot


def test_split_brain_in_the_order_in_which_it_must_be_typed() -> None:
    """The tick would undo it between two lines, and a mark that goes too early is set again."""
    (throw, keep) = said(node(), vm("StandAlone Primary/Unknown UpToDate/DUnknown r", running=True, split=True))
    order = ["kc-maintenance on", "systemctl stop kc-vm@web1", "drbdadm secondary web1", "drbdadm disconnect web1",
             "rm -f /var/lib/kisscluster/split-brain/web1 /var/lib/kisscluster/ahead/web1",
             "drbdadm connect --discard-my-data web1", "kc-maintenance off"]
    assert throw[1] == "; ".join(order)
    assert keep[1] == "rm -f /var/lib/kisscluster/split-brain/web1; drbdadm connect web1"
    both = vm(f.ALONE, copy(f.ALONE, ahead=True), running=True, ahead=True)
    assert said(node(), both)[0] == throw


@pytest.mark.parametrize(("mine", "peers", "told"), [(True, False, True), (False, True, True), (True, True, False)])
def test_fence_command_of_one_node_alone(mine: bool, peers: bool, told: bool) -> None:
    where = node(fence=peers, me_fence=mine)
    assert any("only one of the nodes has a fence command" in item.text
               for item in wrong.pair(where, decide(where))) is told
