"""kc-outdate: write to the disk that our copy of a VM is stale, after we yielded it."""

from kisscluster.act import drbd
from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import facts_of, named_vm, place_of, vm_argument
from kisscluster.see import kernel


def work(call: Call) -> int:
    place = place_of(call)
    vm = named_vm(call, place.config)
    with call.locked(f"lock/{vm.name}"):
        node, facts = facts_of(place, vm)
        mine, peer = kernel.read().get(vm.name), facts.peer.drbd
        if mine is not None and mine.disk == "Outdated" and not mine.connected:
            call.answer(vm=vm.name, outdated=True)
            return Exit.OK
        if again := node.stale if mine == facts.me.drbd else f"its disk has just changed to {mine}":
            raise Failure(Exit.AGAIN, f"{vm.name}: {again}")
        why = (
            "the newest copy may be here: we went on without the peer"
            if facts.me.ahead
            else "it is primary here"
            if facts.primary
            else "this node did not yield it"
            if not facts.me.yields
            else "the peer does not say that it is primary and not connected"
            if not (node.alive and peer is not None and peer.primary and not peer.connected)
            else ""
        )
        if why:
            call.talk(f"{vm.name}: refused: {why}")
            call.answer(vm=vm.name, outdated=False)
            return Exit.UNSAFE
        done = drbd.outdate(call.doer, vm.name)
        call.answer(vm=vm.name, outdated=done)
        return Exit.OK if done else Exit.UNAVAILABLE


def main() -> int:
    return start("kc-outdate", "Write to the disk that our copy of a VM is stale.", work, vm_argument)
