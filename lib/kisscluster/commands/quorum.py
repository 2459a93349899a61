"""kc-quorum: count the votes, write the decision and what else is true of this node."""

import argparse

from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import place_of, status_of
from kisscluster.decide.facts import NodeFacts
from kisscluster.decide.quorum import Decision, decide, what_if
from kisscluster.see.files import Place, is_proven, node_facts, own_word, word


def arguments(parser: argparse.ArgumentParser) -> None:
    what = "only answer what would be decided; what is not named is as on a healthy pair"
    parser.add_argument("--what-if", metavar="FACT=VALUE,...", help=what)


def supposed(text: str) -> Decision:
    words: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise Failure(Exit.USAGE, f"--what-if: {part!r}: expected FACT=VALUE")
        words[name.strip()] = value.strip()
    try:
        return decide(what_if(words))
    except ValueError as error:
        raise Failure(Exit.USAGE, f"--what-if: {error}") from None


def adopt(call: Call, place: Place) -> bool:
    """Keep the newest of a human's words, said here or on the peer; a word about one node is its own."""
    known = {f"stopped/{vm}" for vm in [*place.run.names("peer/local/stopped"), *place.state.names("words/stopped")]}
    changed = False
    for name in sorted(known | {"maintenance", "standby"}):
        newest = own_word(place, name) if name == "standby" else word(place, name)
        if newest.counter:
            changed |= call.write(call.state, f"words/{name}", str(newest), durable=True)
            changed |= call.write(call.run, f"local/{name}", str(newest))
    if not is_proven(place):
        call.remove(place.run, "local/proven")
    return changed


def tell(call: Call, place: Place, facts: NodeFacts) -> bool:
    """What the peer must know of this node; nothing is said from stale facts."""
    if facts.stale or facts.links.starting:
        return False
    changed = call.write(place.run, "local/fit", "yes" if facts.fit else "no")
    changed |= call.write(place.run, "local/steady", "yes" if facts.links.steady else "no")
    return call.write(place.run, "local/config", facts.me.config) or changed


def work(call: Call) -> int:
    if call.options.what_if is not None:
        decision = supposed(call.options.what_if)
        call.dry = False
        call.answer(decision=decision.word, reason=decision.reason)
        return status_of(decision)
    with call.locked("lock/quorum"):
        # first the flag, then everything else: what changes from now on raises it again
        call.remove(call.run, "wake/quorum")
        place = place_of(call)
        changed = adopt(call, place)
        facts = node_facts(place)
        changed |= tell(call, place, facts)
        decision = decide(facts)
        if call.write(place.run, "decision", str(decision)):
            call.talk(f"decision: {decision.word}: {decision.reason}")
        if changed:
            call.wake("failover")
    call.answer(decision=decision.word, reason=decision.reason)
    return status_of(decision)


def main() -> int:
    return start("kc-quorum", "Count the votes and write the decision.", work, arguments, timeout=10)
