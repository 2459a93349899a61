"""kc-fence: prove the peer off, by its fence command or by a human's word."""

import argparse
import time
from contextlib import nullcontext

from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import PAUSE, place_of
from kisscluster.decide.facts import NodeFacts
from kisscluster.see import kernel
from kisscluster.see.files import Place, is_proven, node_facts, peer_start

RETURN = 300.0  # seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    word = "a human's word: I made sure that the peer is off, and it will not come back by itself"
    parser.add_argument("--confirm", action="store_true", help=word)


def patience(place: Place, facts: NodeFacts) -> float:
    """Seconds: the second node of the file waits, so that not both fence each other; and a node that left on purpose is
    about to boot, as long as no guest here is frozen by its end."""
    if facts.peer.leaving and not kernel.any_frozen():
        return RETURN
    return 2 * place.config.deadtime if place.config.second else 0


def look_again(call: Call, place: Place) -> bool:
    """False: it is over."""
    begun = time.monotonic()
    while True:
        facts = node_facts(place)
        if facts.stale or not facts.silent_machine:
            return False
        if call.dry or time.monotonic() >= begun + patience(place, facts):
            return True
        time.sleep(PAUSE)


def prove(call: Call, place: Place) -> bool:
    """Run the fence command; any status but 0, and a peer that speaks meanwhile, prove nothing."""
    command = place.config.peer.fence
    if not command:
        raise Failure(Exit.UNAVAILABLE, f"{place.config.peer.name} has no fence command in {place.config.file}")
    if not look_again(call, place):
        raise Failure(Exit.NO, f"{place.config.peer.name} is not silent, or the switch does not answer: not fencing it")
    ended = call.doer.do("/bin/sh", "-c", command)
    if ended.status:
        call.talk(f"the fence command ended with {ended.status}: {ended.talk}")
    return ended.status == 0


def work(call: Call) -> int:
    place = place_of(call)
    peer = place.config.peer.name
    # a person's word waits for no fence command that may be tried again and again
    with nullcontext() if call.options.confirm else call.locked("lock/fence", 0.0):
        before, facts = peer_start(place), node_facts(place)
        if is_proven(place) and not facts.alive:
            call.answer(peer=peer, proven=True)
            return Exit.OK
        if facts.stale:
            raise Failure(Exit.AGAIN, facts.stale)
        if facts.alive:
            raise Failure(Exit.UNSAFE, f"{peer} speaks: it is not off")
        proven = call.options.confirm or prove(call, place)
        if proven and not node_facts(place).alive and peer_start(place) == before:
            call.write(place.run, "local/proven", before)
            call.wake("failover")
        else:
            proven = False
    call.answer(peer=peer, proven=proven)
    return Exit.OK if proven else Exit.NO


def main() -> int:
    return start("kc-fence", "Prove the peer off.", work, arguments, timeout=60)
