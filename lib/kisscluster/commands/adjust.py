"""kc-adjust: bring a VM's DRBD resource to what its file says: up, connected, its fence handler at work."""

import time

from kisscluster.act import drbd
from kisscluster.act.reset import reset
from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit
from kisscluster.commands.common import ANSWERED, PAUSE, fresh_facts_of, named_vm, place_of, vm_argument
from kisscluster.decide.plan import may_reconnect
from kisscluster.decide.rules import overtaken
from kisscluster.decide.words import BAD
from kisscluster.see import kernel


def refused(call: Call, name: str) -> bool:
    """Does the kernel end at once what it was told to connect? So it does where a disk failed and the peer went on."""
    begun, end = drbd.connect(call.doer, name).status == 0 and not call.dry, time.monotonic() + ANSWERED
    while (word := kernel.read().get(name)) and word.disk in BAD and not word.connected and time.monotonic() < end:
        if word.connection == "StandAlone":
            return begun
        begun = True
        time.sleep(PAUSE)
    return False


def start_anew(call: Call, name: str) -> None:
    call.talk(f"{name}: the peer went on without this node: resetting it")
    reset(call.doer)


def work(call: Call) -> int:
    place = place_of(call)
    vm = named_vm(call, place.config)
    with call.locked(f"lock/{vm.name}"):
        # the heartbeat's word may be from before DRBD found a split brain
        node, facts = fresh_facts_of(place, vm)
        mine = facts.me.drbd
        behind = facts.deaf and overtaken(node, facts)
        if behind and facts.peer_primary:
            # the kernel asks no handler about a disk that failed
            start_anew(call, vm.name)
        if mine is not None and mine.connection == "StandAlone" and not may_reconnect(node, facts):
            call.talk(f"{vm.name}: StandAlone, and must not be connected now: kc-status says why")
            return Exit.UNSAFE
        if mine is None and facts.me.ahead and not drbd.went_on(call.doer, vm.name):
            # the power failed between the mark and the first write (*10): nobody may take it for overtaking (*21)
            call.talk(f"{vm.name}: no write followed the mark ahead: taking it back")
            call.remove(place.state, f"ahead/{vm.name}", durable=True)
        ended = drbd.adjust(call.doer, vm.name, fire_again=facts.deaf)
        if ended.status:
            call.talk(f"{vm.name}: drbdadm adjust: {ended.status}: {ended.talk}")
        if behind and all(refused(call, vm.name) for _ in range(2)):  # once may be a cable that takes the address away
            node, facts = fresh_facts_of(place, vm)
            if facts.deaf and overtaken(node, facts) and node.links.storage and not node.conflict:
                start_anew(call, vm.name)
        call.answer(vm=vm.name, adjusted=ended.status == 0)
        return Exit.UNAVAILABLE if ended.status else Exit.OK


def main() -> int:
    return start("kc-adjust", "Bring a VM's DRBD resource to what its file says.", work, vm_argument)
