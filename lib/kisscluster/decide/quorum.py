"""The decision: where VMs belong. The first line of DESIGN 3's table that fits."""

from __future__ import annotations

from typing import Any, NamedTuple

from kisscluster.decide.facts import Links, NodeFacts

ALL, HOME, NONE, HOLD = "all", "home", "none", "hold"
# what can be supposed with --what-if, and asked for in a scenario
UP_DOWN = ("storage", "production", "ping", "trace")
YES_NO = ("unbroken", "steady", "starting", "standby", "maintenance", "leaving", "proven", "fence", "peer.fit")
FACTS = {**dict.fromkeys(UP_DOWN, ("up", "down")), **dict.fromkeys(YES_NO, ("yes", "no"))}


class Decision(NamedTuple):
    """One of all, home, none, hold; why, in English; what else must happen or be told."""

    word: str
    reason: str
    alarm: bool = False
    fence: bool = False
    quorum: bool = True
    stale: bool = False

    def __str__(self) -> str:
        return f"{self.word} {self.reason}"


def decide(facts: NodeFacts) -> Decision:
    """The votes counted: I, my peer, the switch."""
    links = facts.links
    if facts.stale or links.starting:
        why = facts.stale or "the heartbeat is starting, or this node stood still a moment ago"
        return Decision(HOLD, why, quorum=False, stale=True)
    if facts.maintenance:
        return Decision(HOLD, "maintenance is on")
    if not facts.alive and not links.ping:
        return Decision(HOLD, "no quorum: the peer is silent and the ping address does not answer", True, quorum=False)
    if not facts.alive:
        return _peer_silent(facts)
    return _peer_alive(facts)


def _peer_silent(facts: NodeFacts) -> Decision:
    if facts.dead:
        how = "it was proven off" if facts.proven else "no sign of life on any path, and the ping address answers"
        return Decision(ALL, f"the peer is dead: {how}", True)
    if facts.silent_machine:
        return Decision(HOLD, "the peer seems dead; waiting until its fence command proves it off", True, True)
    return Decision(HOME, "the peer's heartbeat is silent, but its machine shows signs of life", True)


def _peer_alive(facts: NodeFacts) -> Decision:
    links = facts.links
    peer_asked = facts.peer.standby or facts.peer.leaving
    if facts.fit and links.steady and not facts.peer.fit and (peer_asked or facts.peer_unfit_long):
        return Decision(ALL, "the peer cannot serve its VMs (no LAN, standby or leaving), this node can", True)
    asked = facts.me.standby or facts.me.leaving
    if not facts.fit and facts.peer.fit and (asked or facts.peer.steady and facts.me_unfit_long):
        why = "this node is leaving" if facts.me.leaving else "this node is in standby"
        return Decision(NONE, why if asked else "this node has no LAN, the peer has", not asked)
    if not facts.fit and not facts.peer.told:
        return Decision(HOLD, "this node cannot serve VMs, and the peer has not said yet whether it can", True)
    return _at_home(facts)


def _at_home(facts: NodeFacts) -> Decision:
    links = facts.links
    well = {
        "the storage link is down": links.storage,
        "the production link is down": links.production,
        "the ping address does not answer": links.ping,
        "the nodes' configuration differs": not facts.conflict,
    }
    missing = [text for text, ok in well.items() if not ok]
    return Decision(HOME, "; ".join(missing) or "both nodes are well", bool(missing))


def what_if(words: dict[str, str]) -> NodeFacts:
    """The facts of a healthy pair but for those named; raises ValueError naming the word and what was expected."""
    facts = NodeFacts()
    for name, value in words.items():
        if name not in FACTS:
            raise ValueError(f"{name}: no such fact; known are {', '.join(FACTS)}")
        if value not in FACTS[name]:
            raise ValueError(f"{name}={value}: expected {' or '.join(f'{name}={word}' for word in FACTS[name])}")
        facts = _suppose(facts, name, value in ("up", "yes"))
    return facts


def _suppose(facts: NodeFacts, name: str, yes: bool) -> NodeFacts:
    value: dict[str, Any] = {name: yes}
    if name in Links._fields:
        return facts._replace(links=facts.links._replace(**value))
    if name in ("maintenance", "fence", "proven"):
        return facts._replace(**value)
    if name in ("standby", "leaving"):
        return facts._replace(me=facts.me._replace(**value))
    return facts._replace(peer=facts.peer._replace(fit=yes))
