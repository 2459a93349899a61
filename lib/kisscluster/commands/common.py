"""What most commands begin with: the configuration, the facts, the VM that was named."""

import argparse
import time

from kisscluster.act.systemd import enqueue, unit
from kisscluster.base.cli import Call
from kisscluster.base.config import Config, Resource, Unread, Vm, load, load_vm
from kisscluster.base.exits import Exit, Failure
from kisscluster.base.state import is_vm_name
from kisscluster.decide import promote
from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.human import Word
from kisscluster.decide.migrate import GO_ON
from kisscluster.decide.quorum import Decision
from kisscluster.decide.rules import may_go_alone, overtaken
from kisscluster.see import kernel
from kisscluster.see.files import Place, node_facts, vm_facts, word

ANSWERED = 3.0  # seconds for a living peer to answer our news
PAUSE = 0.1  # seconds between two looks


def vm_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vm", metavar="VM", help="the VM's name")


def checked(name: str) -> str:
    """The name, if a VM may be called so: it becomes a part of paths and of unit names."""
    if not is_vm_name(name):
        raise Failure(Exit.USAGE, f"{name!r}: expected a VM's name, [a-z][a-z0-9_]{{0,14}}, none of all home none hold")
    return name


def place_of(call: Call) -> Place:
    return Place(call.run, call.state, load(call.config_file))


def named_vm(call: Call, config: Config) -> Vm:
    return load_vm(config, checked(call.options.vm))


def vm_or_unknown(call: Call) -> Resource:
    """For what must be done for a guest that runs, whatever has become of its file."""
    name = checked(call.options.vm)
    try:
        return load_vm(load(call.config_file), name)
    except Failure as failure:
        call.talk(str(failure))
        return Unread(name)


def facts_of(place: Place, vm: Resource) -> tuple[NodeFacts, VmFacts]:
    """Read anew: what was true a moment ago permits nothing."""
    return node_facts(place), vm_facts(place, vm.name, vm.node)


def fresh_facts_of(place: Place, vm: Resource) -> tuple[NodeFacts, VmFacts]:
    """With the kernel's own word about this node's disk (*24): the heartbeat's may be half an interval old."""
    node, facts = facts_of(place, vm)
    return node, facts._replace(me=facts.me._replace(drbd=kernel.read().get(vm.name)))


def status_of(decision: Decision) -> Exit:
    return Exit.AGAIN if decision.stale else Exit.OK if decision.quorum else Exit.NO_QUORUM


def say_word(call: Call, place: Place, name: str, yes: bool) -> None:
    """Keep a human's word over reboots, newer than any said before on either node."""
    with call.locked("lock/quorum"):  # kc-quorum, which keeps the newest, may have read the one before
        new = Word(word(place, name).counter + 1, yes)
        call.write(call.state, f"words/{name}", str(new), durable=True)
        call.write(call.run, f"local/{name}", str(new))
    call.wake("failover")


def forget(call: Call, place: Place, name: str) -> None:
    """How it ended here is over, with the starts that systemd counts: it must refuse no person and no failover."""
    for mark in ("failed", "off"):
        call.remove(place.run, f"local/{mark}/{name}")
    enqueue(call.doer, "reset-failed", [unit("vm", name)])


def ask_to_move(call: Call, place: Place, name: str) -> None:
    """Say that a VM that runs here is to move to the peer; both nodes' kc-failover see to it."""
    call.remove(place.run, f"local/missed/{name}")
    call.write(place.run, f"migration/{name}", "asked")
    call.write(place.run, f"local/outgoing/{name}", GO_ON)
    call.wake("failover")


def take_back(call: Call, place: Place, name: str) -> None:
    """We do not go on after all; but never below a disk that is written alone."""
    word = kernel.read().get(name)
    if word is None or not word.only_copy:
        call.remove(place.state, f"ahead/{name}", durable=True)


def go_ahead(call: Call, place: Place, vm: Resource, patience: float = ANSWERED) -> bool:
    """Write first that we go on alone, then look again (*): the peer may have our word meanwhile, or have gone on."""
    by_its_word, going = node_facts(place).alive, False
    fresh = call.write(place.state, f"ahead/{vm.name}", "", durable=True)
    end = time.monotonic() + (patience if fresh and by_its_word else 0)
    try:
        while True:
            node, facts = fresh_facts_of(place, vm)
            # a slow disk may have taken a minute for the mark: what permitted it must still be true without it
            grounds = facts._replace(me=facts.me._replace(ahead=not fresh))
            going = may_go_alone(node, grounds) and not facts.me.yields and not (fresh and overtaken(node, grounds))
            over = node.stale or not node.alive or facts.connected or facts.me.yields or facts.peer.drbd is not None
            if going or over or time.monotonic() >= end:
                return going
            time.sleep(PAUSE)  # the mark is news, which takes the peer's older words away (*15): it has to speak again
    finally:
        if fresh and not going:
            take_back(call, place, vm.name)


def ask(call: Call, place: Place, vm: Vm) -> promote.Verdict:
    """Write down why a VM's disk may not be primary here, and claim it where only the peer's word is missing."""
    node, facts = facts_of(place, vm)
    found = promote.verdict(node, facts)
    if found.word == promote.CLAIM:
        call.write(place.run, f"claim/{vm.name}", "home" if facts.at_home else "away")
    elif not facts.frozen:
        call.remove(place.run, f"claim/{vm.name}")
    if found.word in (promote.CLAIM, promote.STALE_COPY, promote.WAIT):
        call.write(place.run, f"pending/{vm.name}", found.reason)
    return found
