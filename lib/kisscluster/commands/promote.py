"""kc-promote: make this node DRBD primary for a VM, if that is safe."""

import time

from kisscluster.act import drbd
from kisscluster.base.cli import Call, start
from kisscluster.base.config import Vm
from kisscluster.base.exits import Exit
from kisscluster.commands.common import ask, facts_of, go_ahead, named_vm, place_of, take_back, vm_argument
from kisscluster.decide import promote
from kisscluster.decide.promote import Verdict, verdict
from kisscluster.decide.wrong import accept_loss
from kisscluster.see import kernel
from kisscluster.see.files import Place

PAUSE = 0.3  # seconds until the kernel may have found out that its peer is gone (FACTS 1.5)
AWAY = 0.7  # the same while connected, away from home: both promoting in step would refuse each other for ever
LATE = "late"
STATUS = {promote.REFUSE: Exit.NO, promote.STALE_COPY: Exit.UNSAFE}
ENDED = {drbd.NO_GOOD_COPY: Exit.UNSAFE, drbd.REFUSED: Exit.NO, Exit.AGAIN: Exit.AGAIN, 124: Exit.TIMEOUT}


def attempt(call: Call, place: Place, vm: Vm, alone: bool) -> int:
    """One `drbdadm primary`; its exit status, 75 when we may not after all."""
    fresh = alone and not place.state.has(f"ahead/{vm.name}")
    if alone and not go_ahead(call, place, vm):
        return Exit.AGAIN
    ended = drbd.primary(call.doer, vm.name)
    if ended.status:
        call.talk(f"{vm.name}: drbdadm primary: {ended.status}: {ended.talk}")
    if fresh and ended.status in (drbd.REFUSED, drbd.NO_GOOD_COPY, drbd.NOT_UP):
        # refused for certain: nothing was written, so we did not go on
        take_back(call, place, vm.name)
    return ended.status


def fresh_verdict(place: Place, vm: Vm) -> Verdict:
    """What the heartbeat says of our disk, and keeps of the peer's words for it, must be what the kernel says now."""
    node, facts = facts_of(place, vm)
    word = kernel.read().get(vm.name)
    if word is not None and word != facts.me.drbd:
        return Verdict(LATE, f"its disk has just changed to {word}")
    return verdict(node, facts)


def refuse(call: Call, place: Place, vm: Vm, found: Verdict) -> int:
    """Say why not, and where it may change, ask the peer and wait for the next tick."""
    node, facts = facts_of(place, vm)
    if ask(call, place, vm).word == promote.STALE_COPY and node.dead:
        call.talk(f"{vm.name}: to accept the loss of what the peer wrote: {accept_loss(facts)}")
    call.answer(vm=vm.name, promoted=False, reason=found.reason)
    if found.word in STATUS:
        return STATUS[found.word]
    silent = not node.stale and not node.alive and not node.links.ping
    return Exit.NO_QUORUM if silent else Exit.AGAIN


def work(call: Call) -> int:
    place = place_of(call)
    vm = named_vm(call, place.config)
    end = time.monotonic() + call.timeout
    with call.locked(f"lock/{vm.name}"):
        while True:
            found = fresh_verdict(place, vm)
            if found.word == LATE and time.monotonic() + PAUSE < end:
                time.sleep(PAUSE)
                continue
            if found.word not in (promote.DONE, promote.GO, promote.GO_ALONE):
                return refuse(call, place, vm, found)
            status = 0 if found.word == promote.DONE else attempt(call, place, vm, found.word == promote.GO_ALONE)
            if status == 0:
                for mark in ("claim", "pending"):
                    call.remove(place.run, f"{mark}/{vm.name}")
                call.answer(vm=vm.name, promoted=True, reason=found.reason)
                return Exit.OK
            pause = AWAY if found.word == promote.GO and vm.node != place.config.me.name else PAUSE
            if status not in (drbd.REFUSED, Exit.AGAIN) or time.monotonic() + pause > end:
                call.write(place.run, f"pending/{vm.name}", f"drbdadm primary answered {status}")
                return ENDED.get(status, Exit.UNAVAILABLE)
            time.sleep(pause)


def main() -> int:
    return start("kc-promote", "Make this node DRBD primary for a VM, if that is safe.", work, vm_argument, timeout=10)
