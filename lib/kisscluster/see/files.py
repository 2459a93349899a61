"""The state files become facts: the one reader that every command decides from."""

from typing import NamedTuple

from kisscluster.base.clock import boottime
from kisscluster.base.config import Config, digest
from kisscluster.base.state import State
from kisscluster.decide.facts import Copy, Links, NodeFacts, Side, VmFacts
from kisscluster.decide.human import Word
from kisscluster.decide.words import Drbd


class Place(NamedTuple):
    """Where this node's facts lie: /run/kisscluster, /var/lib/kisscluster, the configuration."""

    run: State
    state: State
    config: Config


def stale(place: Place) -> str:
    """Why the heartbeat's files cannot be trusted now, or nothing."""
    line = place.run.read("alive")
    if line is None:
        return "kc-heartbeat is not running"
    try:
        silent = boottime() - float(line)
    except ValueError:
        return f"{place.run.path('alive')} holds no time"
    if not -1 < silent < place.config.deadtime / 2:
        return f"kc-heartbeat has been silent for {silent:.1f} s"
    return ""


def word(place: Place, name: str) -> Word:
    """A human's word, the newest of both nodes'; what was said here survives reboots."""
    sources = [place.run.read(f"local/{name}"), place.state.read(f"words/{name}"), place.run.read(f"peer/local/{name}")]
    return max(Word.parse(line) for line in sources)


def own_word(place: Place, name: str) -> Word:
    """A human's word about this node alone."""
    return max(Word.parse(place.run.read(f"local/{name}")), Word.parse(place.state.read(f"words/{name}")))


def node_facts(place: Place) -> NodeFacts:
    """Everything that the decision is made from, as it is now."""
    run, config = place.run, place.config
    why = stale(place)
    links = Links.parse(run.read("links") or "")
    if links is None:
        why = why or f"{run.path('links')} is missing or not readable as facts"
        links = Links(False, False, False, False)
    unfit_long = config.deadtime + 2 * config.interval
    return NodeFacts(
        stale=why,
        links=links,
        me=Side(
            steady=links.steady,
            standby=own_word(place, "standby").yes,
            leaving=run.has("local/leaving"),
            config=digest(config),
        ),
        peer=Side(
            fit=run.read("peer/local/fit") == "yes",
            steady=run.read("peer/local/steady") == "yes",
            standby=Word.parse(run.read("peer/local/standby")).yes,
            leaving=run.has("peer/local/leaving"),
            config=run.read("peer/local/config") or "",
            told=run.has("peer/local/fit"),
        ),
        maintenance=word(place, "maintenance").yes,
        fence=bool(config.peer.fence),
        me_fence=bool(config.me.fence),
        proven=is_proven(place),
        me_unfit_long=_since(place, "local/fit", "no") >= unfit_long,
        peer_unfit_long=_since(place, "peer/local/fit", "no") >= unfit_long,
        failback=config.failback if calm(place) >= config.failback_after else "",
    )


def calm(place: Place) -> float:
    """Seconds for which the peer has been fit and steady while nothing changed between the two of us; -1 without."""
    said = [_since(place, f"peer/local/{name}", "yes") for name in ("fit", "steady")]
    return min(place.run.age("links") or -1.0, *said)


def _since(place: Place, name: str, value: str) -> float:
    """Seconds for which a fact has had this value; -1 when it has not."""
    age = place.run.age(name)
    return age if age is not None and place.run.read(name) == value else -1.0


def peer_start(place: Place) -> str:
    """Which start of the peer's kc-heartbeat was heard last; a proof that it is off is about that one."""
    return place.run.read("peer/boot") or "never-heard"


def is_proven(place: Place) -> bool:
    return place.run.read("local/proven") == peer_start(place)


def _copy(run: State, whose: str, name: str, ahead: bool) -> Copy:
    """One node's word about one VM: our own files, or those under peer/."""
    tried, _, missed = (run.read(f"{whose}local/missed/{name}") or "").partition(": ")
    return Copy(
        drbd=Drbd.parse(run.read(f"{whose}drbd/{name}")),
        even=run.has(f"{whose}even/{name}"),
        yields=run.has(f"{whose}yields/{name}"),
        claim=run.has(f"{whose}claim/{name}"),
        ahead=ahead,
        running=run.has(f"{whose}local/running/{name}"),
        failed=run.has(f"{whose}local/failed/{name}"),
        off=run.has(f"{whose}local/off/{name}"),
        outgoing=run.read(f"{whose}local/outgoing/{name}") or "",
        incoming=run.read(f"{whose}local/incoming/{name}") or "",
        tried=tried,
        missed=missed,
        kept=run.has(f"{whose}local/kept/{name}"),
    )


def vm_facts(place: Place, name: str, home: str) -> VmFacts:
    """Everything that is known about one VM, as it is now."""
    run, state = place.run, place.state
    me = _copy(run, "", name, state.has(f"ahead/{name}"))
    told = run.read(f"peer/drbd/{name}")
    peer = _copy(run, "peer/", name, run.has(f"peer/ahead/{name}"))
    if run.read(f"peer/drbd/{name}") != told:
        peer = peer._replace(drbd=None)  # kc-heartbeat writes its marks before it, and takes it away before them
    return VmFacts(
        name,
        home == place.config.me.name,
        me,
        peer,
        stopped=word(place, f"stopped/{name}").yes,
        pending=run.has(f"pending/{name}"),
        split=state.has(f"split-brain/{name}"),
        handler=run.locked(f"lock/fence-{name}"),
        drbd_age=run.age(f"drbd/{name}") or 0.0,
    )
