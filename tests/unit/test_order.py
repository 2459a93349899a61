"""Which VMs start now, and why the others wait."""

from __future__ import annotations

from typing import Any

import pytest

from kisscluster.decide.order import PATIENCE, TURN, Guest, Room, in_turn, too_small
from kisscluster.decide.plan import START, STOP, TAKE, WAIT, Action

WIDE = Room(slots=9)


def guests(*orders: int, **changes: Any) -> list[Guest]:
    """a, b, c ... with these orders, 36 MiB each: 100 with what QEMU takes."""
    found = [Guest(chr(97 + index), order, 36) for index, order in enumerate(orders)]
    return [guest._replace(**changes.get(guest.name, {})) for guest in found]


def starts(found: list[Guest], room: Room, wanted: str = "abcdefghi") -> str:
    """The names of those that start now."""
    actions = [Action(START, guest.name, "why") for guest in found if not guest.running and guest.name in wanted]
    return "".join(action.vm for action in in_turn(actions, found, room) if action.verb == START)


def test_one_starts_at_once_whatever_is_known() -> None:
    assert starts(guests(50), Room()) == "a"
    assert starts(guests(50), Room(memory=100, slots=1, pause=60)) == "a"


def test_as_many_as_there_are_slots() -> None:
    assert starts(guests(1, 1, 2, 3), Room(slots=2)) == "ab"
    assert starts(guests(1, 1, 2, 3, a={"running": True, "begun": 1.0}, b={"begun": 1.0}), Room(slots=2)) == "bc"
    assert starts(guests(1, 1, 2, a={"begun": 1.0}, b={"begun": 1.0}), Room(slots=2)) == "ab"


def test_who_cannot_start_holds_nobody_for_ever() -> None:
    late = {"begun": PATIENCE}
    assert starts(guests(1, 1, 2, 3, a=late, b=late), Room(slots=2)) == "abcd"
    assert starts(guests(1, 2, a=late), Room(pause=10)) == "ab"
    assert starts(guests(1, 2, a=late), Room(pause=100)) == "ab"
    assert starts(guests(1, 2), Room(pause=10), "b") == "b"                   # a waits for its peer's word


def test_pause_between_groups() -> None:
    room = Room(slots=9, pause=10)
    assert starts(guests(1, 1, 2, 3), room) == "ab"
    assert starts(guests(1, 1, 2, 3, a={"running": True, "begun": 9.0}, b={"begun": 9.0}), room) == "b"
    run = {"running": True, "begun": 9.0}
    assert starts(guests(1, 1, 2, 3, a=run, b=run), room) == ""
    run = {"running": True, "begun": 10.0}
    assert starts(guests(1, 1, 2, 3, a=run, b=run), room) == "c"
    assert starts(guests(1, 2, a={"running": True}), room) == "b"             # it ran before


@pytest.mark.parametrize(("memory", "expected"), [(None, "abc"), (300, "abc"), (299, "ab"), (99, ""), (0, "")])
def test_until_memory_is_used_up(memory: int | None, expected: str) -> None:
    assert starts(guests(1, 2, 3), WIDE._replace(memory=memory)) == expected


def test_what_runs_takes_memory_and_so_does_what_starts() -> None:
    room = WIDE._replace(memory=250)
    assert starts(guests(1, 2, 3, b={"running": True}), room) == "a"
    assert starts(guests(1, 2, 3, c={"begun": 1.0}), room) == "ac"
    assert starts(guests(1, 2, 3, c={"begun": 99.0}), room) == "ac"


def test_a_smaller_one_may_still_fit() -> None:
    assert starts(guests(1, 2, a={"memory": 1000}), WIDE._replace(memory=250, pause=60)) == "b"


def test_why() -> None:
    found = guests(1, 2, 3, b={"memory": 136})
    actions = [Action(STOP, "z", "a person stopped it"), *(Action(START, name, "why") for name in "abc")]
    assert in_turn(actions, found, Room(memory=250, slots=1)) == [
        actions[0], actions[1],
        Action(WAIT, "b", "no memory for it here: it needs 200 MiB, 150 of 250 are left"), Action(WAIT, "c", TURN)]


def test_a_node_that_is_too_small() -> None:
    assert too_small(guests(1, 2), Room()) == too_small(guests(1, 2), Room(memory=200)) == ""
    assert too_small(guests(1, 2), Room(memory=199)) == (
        "this node cannot hold all VMs: they need 200 MiB, it has 199 for them")


def test_what_comes_while_it_runs_needs_memory_and_no_turn() -> None:
    actions = [Action(TAKE, "a", "why"), Action(START, "b", "why"), Action(TAKE, "c", "why")]
    found = in_turn(actions, guests(1, 1, 1), Room(memory=250, slots=0))
    assert [action.verb for action in found] == [TAKE, WAIT, WAIT]
    assert found[1].reason == TURN and "no memory" in found[2].reason
