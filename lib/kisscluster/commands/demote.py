"""kc-demote: give a VM's disk up; done only when the kernel agrees that nobody holds it open."""

import argparse
import time

from kisscluster.act import drbd
from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit
from kisscluster.commands.common import PAUSE, checked, facts_of, named_vm, place_of, vm_argument
from kisscluster.decide.plan import orphan
from kisscluster.decide.quorum import decide
from kisscluster.see import kernel


def arguments(parser: argparse.ArgumentParser) -> None:
    vm_argument(parser)
    why = "only if nothing runs on it and nothing is about to; for kc-demote@VM.service"
    parser.add_argument("--orphan", action="store_true", help=why)


def is_orphan(call: Call) -> bool:
    """Look again: since the job was queued the disk may have got its guest."""
    place = place_of(call)
    node, facts = facts_of(place, named_vm(call, place.config))
    return orphan(decide(node), node, facts) and kernel.read().get(facts.name) == facts.me.drbd


def work(call: Call) -> int:
    name = checked(call.options.vm)
    end = time.monotonic() + call.timeout
    with call.locked(f"lock/{name}"):
        if call.options.orphan and not is_orphan(call):
            call.answer(vm=name, demoted=False)
            return Exit.NO
        while True:
            ended = drbd.secondary(call.doer, name)
            if ended.status == 0 or ended.status == drbd.NOT_UP and name not in kernel.read():
                call.answer(vm=name, demoted=True)
                call.wake("failover")
                return Exit.OK
            if ended.status != drbd.REFUSED or time.monotonic() + PAUSE > end:
                call.talk(f"{name}: drbdadm secondary: {ended.status}: {ended.talk}")
                call.answer(vm=name, demoted=False)
                return Exit.TIMEOUT if ended.status in (drbd.REFUSED, 124) else Exit.UNAVAILABLE
            time.sleep(PAUSE)  # the kernel has no event for "closed"


def main() -> int:
    return start("kc-demote", "Give a VM's disk up.", work, arguments)
