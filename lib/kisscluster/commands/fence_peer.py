"""kc-fence-peer: DRBD's fence-peer handler. Its exit status is DRBD's (FACTS 1.4): only 4, 5 and 7 let writes go on."""

import argparse
import os
import sys
import syslog
import time

from kisscluster.act.reset import reset
from kisscluster.base.cli import Call, start
from kisscluster.base.config import Resource
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import ANSWERED, PAUSE, checked, go_ahead, place_of, vm_or_unknown
from kisscluster.decide import fence
from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.see import kernel
from kisscluster.see.files import Place, node_facts, vm_facts

HANDOVER = 5.0  # seconds for an earlier handler of the same resource to notice that it is over
WHY = {
    4: "the peer's copy is behind ours",
    5: "the peer is dead and both copies were the same",
    7: "the peer was proven off",
    1: "not permitted",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "vm",
        metavar="VM",
        nargs="?",
        default=os.environ.get("DRBD_RESOURCE", ""),
        help="the VM's name (default: $DRBD_RESOURCE)",
    )


def log(call: Call, line: str) -> None:
    """The kernel's children have no journal of their own."""
    syslog.syslog(syslog.LOG_WARNING, line)
    if sys.stderr.isatty():
        call.talk(line)


def look(place: Place, vm: Resource) -> tuple[NodeFacts, VmFacts]:
    """The facts, with the kernel's own word about this resource: the heartbeat's may be an interval old."""
    facts = vm_facts(place, vm.name, vm.node)
    word = kernel.read().get(vm.name)
    return node_facts(place), facts._replace(me=facts.me._replace(drbd=word)) if word else facts


def once(call: Call, place: Place, vm: Resource, promoting: bool) -> int:
    """One look at the facts: an answer, or fence.WAIT."""
    node, before = look(place, vm)
    code = fence.answer(node, before, promoting)
    if code == fence.RESET:
        log(call, f"{vm.name}: the peer went on without this node: resetting it")
        reset(call.doer)
        return fence.WAIT
    if code in WHY and code != fence.REFUSED:
        if not go_ahead(call, place, vm, 0 if promoting else ANSWERED):
            return fence.REFUSED if promoting else fence.WAIT
        log(call, f"{vm.name}: answering {code}: {'this copy went on alone before' if before.me.ahead else WHY[code]}")
    if code == fence.WAIT:
        call.write(place.run, f"claim/{vm.name}", "home" if vm.node == place.config.me.name else "away")
    return code


def until_answered(call: Call, place: Place, vm: Resource, promoting: bool) -> int:
    """A frozen primary waits as long as it takes: the kernel asks only once, and a wrong answer costs data."""
    trouble = ""
    while True:
        try:
            code = once(call, place, vm, promoting)
        except OSError as error:
            if trouble != str(error):
                trouble = str(error)
                log(call, f"{vm.name}: {trouble}")
            code = fence.REFUSED if promoting else fence.WAIT
        if code != fence.WAIT or call.dry:
            return fence.REFUSED if code in (fence.WAIT, fence.OVER) else code
        time.sleep(PAUSE)


def work(call: Call) -> int:
    name = checked(call.options.vm)
    syslog.openlog("kc-fence-peer", syslog.LOG_PID, syslog.LOG_DAEMON)
    try:
        place = place_of(call)
        vm = vm_or_unknown(call)
        mine = look(place, vm)[1].me.drbd
        promoting = mine is None or not mine.primary
        with call.locked(f"lock/fence-{name}", HANDOVER):
            log(call, f"{name}: DRBD asks, {'promoting' if promoting else 'writes are frozen'}: {mine}")
            code = until_answered(call, place, vm, promoting)
        if not promoting:
            call.remove(place.run, f"claim/{name}")
    except Failure as failure:
        log(call, f"{name}: {failure}")
        raise
    call.answer(vm=name, answer=code, reason=WHY[code])
    return code


def main() -> int:
    code = start("kc-fence-peer", "Answer DRBD whether a VM's disk may go on without the peer.", work, arguments)
    # of our own codes, 3 to 7 would mean something to DRBD
    return code if code in (Exit.OK, Exit.USAGE) or code in WHY or code > 7 else Exit.NO
