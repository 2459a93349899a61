"""kc-failover: turn the decision into systemd jobs; queue them, wait for none."""

import argparse
import time
from contextlib import suppress

from kisscluster.act import drbd
from kisscluster.act.systemd import enqueue, unit
from kisscluster.base.cli import Call, start
from kisscluster.base.clock import boottime
from kisscluster.base.config import load_vm, load_vms
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import ask, ask_to_move, forget, fresh_facts_of, place_of, status_of
from kisscluster.decide import plan as plans
from kisscluster.decide.order import TURN, Guest, in_turn
from kisscluster.decide.plan import Action, plan
from kisscluster.decide.quorum import decide
from kisscluster.decide.rules import may_part, waits_for_proof
from kisscluster.see import kernel
from kisscluster.see.files import Place, node_facts, vm_facts
from kisscluster.see.room import guest, room

UNITS = {
    plans.START: ("start", "vm"),
    plans.STOP: ("stop", "vm"),
    plans.DEMOTE: ("start", "demote"),
    plans.OUTDATE: ("start", "outdate"),
    plans.ADJUST: ("start", "adjust"),
    plans.MIGRATE: ("start", "migrate"),
    plans.TAKE: ("start", "migrate"),
}

MARKS = {plans.RELEASE: "claim", plans.CLEAR: "pending", plans.TRIED: "local/missed", plans.BACK: "local/kept"}

# seconds: between two looks at how the VMs of a node that leaves are handed over; for one of them
PAUSE, STEP = 0.2, 10.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leave", action="store_true", help="until no VM is handed over; for kc-leave.service only")


def keep_books(call: Call, place: Place, action: Action) -> None:
    """The marks that are this command's to take away."""
    if action.verb == plans.ASK:
        ask(call, place, load_vm(place.config, action.vm))
    elif action.verb == plans.WAIT:
        if call.write(place.run, f"pending/{action.vm}", action.reason):
            call.talk(f"{action.vm}: {action.reason}")
    elif action.verb == plans.SEND:
        ask_to_move(call, place, action.vm)
    elif action.verb in MARKS:
        call.remove(place.run, f"{MARKS[action.verb]}/{action.vm}")
    elif action.verb == plans.AHEAD:
        word = kernel.read().get(action.vm)
        if word is not None and word.only_copy:  # it may have been given up since the heartbeat looked
            call.write(place.state, f"ahead/{action.vm}", "", durable=True)
            level(call, place, action.vm)  # the disk may have become even while it was written
    elif action.verb == plans.LEVEL:
        level(call, place, action.vm)
    elif action.verb == plans.ENDED:
        tidy(call, place, action.vm)
    elif action.verb == plans.STARTED:
        forget(call, place, action.vm)
    elif action.verb == plans.MENDED:
        call.remove(place.state, f"split-brain/{action.vm}")


def level(call: Call, place: Place, name: str) -> None:
    """Nobody is ahead any more, if the kernel still says so while no handler and no promotion can need the mark."""
    with call.locked(f"lock/{name}", 0), call.locked(f"lock/fence-{name}", 0):
        word = kernel.read().get(name)
        if word is not None and (word.even or word.disk == "Inconsistent"):
            call.remove(place.state, f"ahead/{name}", durable=True)


def tidy(call: Call, place: Place, name: str) -> None:
    """Nothing runs on a secondary disk, if it is still secondary while no promotion can bring a guest."""
    with call.locked(f"lock/{name}", 0):
        word = kernel.read().get(name)
        if word is not None and not word.primary:
            call.remove(place.run, f"local/running/{name}")


def keep_all_books(call: Call, place: Place, actions: list[Action]) -> None:
    """One mark that cannot be written (/run full, /var read-only, its lock held) keeps no other VM waiting."""
    for action in actions:
        try:
            keep_books(call, place, action)
        except (OSError, Failure) as error:
            call.talk(f"{action.verb} {action.vm}: {error}")


def note_starts(call: Call, place: Place, actions: list[Action], guests: list[Guest], running: set[str]) -> None:
    """Since when each VM starts here, and whether others wait for that: who starts next is decided from it."""
    if call.dry:
        return  # what a person would do to the VMs is asked, not what is noted
    starts = {action.vm for action in actions if action.verb == plans.START}
    old = running | starts
    with suppress(OSError):
        for name in place.run.names("begun"):
            if name not in old:
                call.remove(place.run, f"begun/{name}")
        for guest in guests:
            if guest.name in starts and guest.begun is None:
                call.write(place.run, f"begun/{guest.name}", f"{boottime():.3f}")
        if any(action.reason == TURN for action in actions):
            call.write(place.run, "turn", "")
        else:
            call.remove(place.run, "turn")


def jobs(actions: list[Action]) -> dict[str, list[str]]:
    """One systemctl call a verb; stops first, so that what gives up is not kept waiting."""
    out: dict[str, list[str]] = {"stop": [], "start": []}
    for action in actions:
        if action.verb in UNITS:
            verb, kind = UNITS[action.verb]
            out[verb].append(unit(kind, action.vm))
    return out


def tell(call: Call, place: Place, summary: str, actions: list[Action]) -> None:
    """Say every action with its reason, unless the plan is the one of the last run."""
    with suppress(OSError):
        if call.dry or not place.run.write("plan", summary):
            return
    for action in actions:
        if action.verb != plans.WAIT:  # said once, and not again with every other VM's start
            call.talk(f"{action.verb} {action.vm}: {action.reason}")


def once(call: Call) -> int:
    with call.locked("lock/failover"):
        # first the flag, then everything else: what changes from now on raises it again
        call.remove(call.run, "wake/failover")
        place = place_of(call)
        vms, mistakes = load_vms(place.config)
        node = node_facts(place)
        decision = decide(node)
        facts = [vm_facts(place, vm.name, vm.node) for vm in vms]
        actions, guests = plan(decision, node, facts, 2 * place.config.deadtime), list[Guest]()
        if any(action.verb in (plans.START, plans.TAKE) for action in actions):
            here = [fact.me.running or bool(fact.me.incoming) for fact in facts]
            guests = [guest(place, vm, is_here) for vm, is_here in zip(vms, here, strict=True)]
            actions = in_turn(actions, guests, room(place))
        queue = jobs(actions)
        # also what has no file, or none that can be read, is frozen until the proof
        if decision.fence and (any(map(waits_for_proof, facts)) or kernel.any_frozen()):
            queue["start"].append("kc-fence.service")
        ended = [enqueue(call.doer, verb, units) for verb, units in queue.items()]
        summary = ",".join(f"{action.verb}:{action.vm}" for action in actions) or "none"
        tell(call, place, summary, actions)
        keep_all_books(call, place, actions)
        note_starts(call, place, actions, guests, {fact.name for fact in facts if fact.me.running})
    call.answer(decision=decision.word, actions=summary)
    if call.dry and not actions:
        call.talk(f"nothing to do: {decision.word}: {decision.reason}")
    if mistakes:
        raise Failure(Exit.CONFIG, "\n".join(mistakes))
    for end in ended:
        if end.status:
            call.talk(f"systemctl: {end.talk}")
            return Exit.UNAVAILABLE
    return status_of(decision)


def leave(call: Call) -> int:
    """While the machine shuts down nothing else wakes us, and only kc-migrate@VM can be started."""
    end, idle = time.monotonic() + call.timeout, 0
    call.timeout = call.doer.timeout = STEP
    # twice: what ends while we look leaves its place to the next ones
    while idle < (1 if call.dry else 2) and time.monotonic() < end:
        arrived = set[str]()
        with suppress(Failure):  # a VM's file that cannot be read keeps no other VM here
            node = node_facts(place_of(call))
            if node.alive and not node.stale:
                arrived = set(call.run.names("local/running")) & set(call.run.names("peer/local/outgoing"))
            once(call)
        busy = not call.dry and (arrived or any(call.run.names(f"local/{way}") for way in ("outgoing", "incoming")))
        idle = 0 if busy else idle + 1
        time.sleep(0 if call.dry else PAUSE)
    place = place_of(call)
    for vm in load_vms(place.config)[0]:
        with suppress(Failure), call.locked(f"lock/{vm.name}", 0):
            if may_part(*fresh_facts_of(place, vm)):
                drbd.part(call.doer, vm.name)
    return Exit.OK if idle else Exit.TIMEOUT


def work(call: Call) -> int:
    return leave(call) if call.options.leave else once(call)


def main() -> int:
    return start("kc-failover", "Turn the decision into systemd jobs.", work, arguments, timeout=10)
