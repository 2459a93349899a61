"""even and yields: what kc-heartbeat may say about a VM."""

import pytest

from kisscluster.decide.facts import Copy
from kisscluster.decide.marks import next_even, next_yields
from tests.unit import facts as f
from tests.unit.facts import copy

RUNNING_APART = "WFConnection Primary/Unknown UpToDate/DUnknown r"
FAILED = "WFConnection Primary/Unknown Diskless/DUnknown s"
HALF = "WFConnection Primary/Unknown Inconsistent/DUnknown s"
TARGET_DONE = "Connected Secondary/Primary UpToDate/UpToDate r"
SOURCE_NOT = "SyncSource Primary/Secondary UpToDate/Inconsistent r"


@pytest.mark.parametrize(("before", "me", "peer", "after"), [
    (False, copy(f.EVEN), copy(f.EVEN), True),
    (False, copy(TARGET_DONE), copy(SOURCE_NOT), False),       # UpToDate in its own eyes alone
    (True, copy(TARGET_DONE), copy(SOURCE_NOT), False),
    (False, copy(f.EVEN), copy(), False),                      # the peer's word is too old
    (True, copy(f.APART), copy(), True),                       # the peer died
    (True, copy(f.APART), copy(f.FROZEN), True),               # it froze: it cannot have gone on
    (True, copy(f.APART), copy(RUNNING_APART), False),         # somebody let it write
    (True, copy(f.APART), copy(f.ALONE), False),
    (True, copy(f.APART, ahead=True), copy(), True),           # about to go on: its last look asks for even (*27)
    (True, copy(f.ALONE, ahead=True), copy(), False),          # it went on
    (False, copy(f.EVEN, ahead=True), copy(f.EVEN), False),
    (True, copy(f.APART), copy(ahead=True), False),
    (True, copy(f.EVEN, yields=True), copy(f.EVEN), False),
    (True, copy(None), copy(f.EVEN), False),                   # not up: we cannot say
    (True, copy(f.CONSISTENT), copy(), False),
    (True, copy(f.OUTDATED), copy(), False),
    (False, copy(f.APART), copy(f.APART), False),
])
def test_even(before: bool, me: Copy, peer: Copy, after: bool) -> None:
    assert next_even(before, me, peer, peer) is after


@pytest.mark.parametrize("last", [copy(ahead=True), copy(f.ALONE), copy(RUNNING_APART)])
def test_old_word_takes_even_away_and_never_gives_it(last: Copy) -> None:
    """It said "ahead" in the very datagram that our own change made too old, and died before the next one."""
    assert not next_even(True, copy(f.APART), copy(), last)
    assert not next_even(False, copy(f.EVEN), copy(), copy(f.EVEN))


@pytest.mark.parametrize(("before", "me", "peer", "known", "gives_way", "after"), [
    (False, copy(f.APART), copy(claim=True), True, False, True),
    (False, copy(f.APART), copy(claim=True), False, False, False),          # said before the cable flapped
    (False, copy(f.PEER_PRIMARY), copy(claim=True), True, False, True),     # our DRBD still believes
    (False, copy(f.FROZEN), copy(claim=True), True, True, False),           # primary
    (False, copy(f.APART, ahead=True), copy(claim=True), True, True, False),
    (False, copy(f.APART, claim=True), copy(claim=True), True, False, False),
    (False, copy(f.APART, claim=True), copy(claim=True), True, True, True),
    (False, copy(f.APART), copy(ahead=True), True, True, False),            # only who asks gets a word
    (False, copy(None), copy(claim=True), True, False, True),
    (False, copy(f.APART), copy(f.FROZEN), True, False, True),              # it asks by its very state
    (False, copy(f.PEER_PRIMARY), copy(f.FROZEN), True, False, True),
    (False, copy(f.FROZEN), copy(f.FROZEN), True, True, False),             # a migration's window: neither can give
    (True, copy(f.APART), copy(f.FROZEN), True, False, True),
    (True, copy(f.APART), copy(ahead=True), True, False, True),             # stands while it is ahead
    (True, copy(f.APART), copy(), False, False, True),                      # and while we do not know
    (True, copy(f.EVEN), copy(), True, False, False),
    (False, copy(f.APART), copy(FAILED), True, False, False),               # ours is the only good copy (*20)
    (False, copy(f.APART), copy(FAILED, claim=True), True, True, False),
    (False, copy(f.APART), copy(HALF, claim=True), True, True, False),
    (False, copy(f.APART), copy(f.OUTDATED, claim=True), True, True, False),
    (False, copy(f.APART), copy(f.CONSISTENT, claim=True), True, False, True),
    (False, copy(f.APART), copy(None, claim=True), True, False, True),      # it asks, and its disk is not known
    (True, copy(f.APART), copy(FAILED), True, False, False),                # failed before it went on
    (True, copy(f.APART), copy(FAILED, ahead=True), True, False, True),     # and after
])
def test_yields(before: bool, me: Copy, peer: Copy, known: bool, gives_way: bool, after: bool) -> None:
    assert next_yields(before, me, peer, known, gives_way) is after
