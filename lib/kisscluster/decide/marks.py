"""The marks that kc-heartbeat keeps for each VM: even (both copies were the same) and yields (our word)."""

from kisscluster.decide.facts import Copy
from kisscluster.decide.words import Drbd


def spoils(word: Drbd | None) -> bool:
    """Does this word say that the copies may differ? A copy that merely lost sight of the other does not."""
    if word is None or word.even:
        return False
    return word.connected or word.disk != "UpToDate" or word.peer_disk != "DUnknown" or word.running_alone


def next_even(before: bool, me: Copy, peer: Copy, last: Copy) -> bool:
    """Set by both nodes' words, kept while both are lost, gone as soon as either says otherwise (DESIGN 3, *).

    `last`: the peer's last word, however old it is: an old word may take the mark away, never give it.
    `peer.drbd` is None while no word is newer than our last change; our own None is a resource that is not up,
    of which we cannot say anything. Our own mark ahead gives nothing and takes nothing (*27): it is written before the
    last look, which asks for even, and is taken away again where that look refuses.
    """
    if last.ahead or me.yields or me.drbd is None or spoils(me.drbd) or spoils(last.drbd):
        return False
    return before or not me.ahead and me.level and peer.level


def next_yields(before: bool, me: Copy, peer: Copy, known: bool, gives_way: bool) -> bool:
    """Our word that the peer may go on alone; stands until the peer says neither claim nor ahead (DESIGN 3).

    A frozen primary asks by its very state: its word is here before its handler has even started. Whose own disk
    failed asks in vain: ours is the good copy, and would be outdated by our word (*20).
    `known`: the peer's marks are newer than our last change. `gives_way`: when both claim, we are the one
    that gives way (not its home).
    """
    if me.ahead or me.drbd is not None and me.drbd.primary:
        return False
    if not known:
        return before
    good = peer.drbd is None or peer.drbd.disk in ("UpToDate", "Consistent")
    asks = good and (peer.claim or peer.drbd is not None and peer.drbd.waiting)
    if before:
        return asks or peer.ahead
    return asks and (not me.claim or gives_way)
