"""Which of the VMs that may start here do so now: by their order, a few at once, for as long as memory lasts."""

from __future__ import annotations

from typing import NamedTuple

from kisscluster.decide.plan import START, TAKE, WAIT, Action

OVERHEAD = 64  # MiB that QEMU itself takes beside the memory of its guest
PATIENCE = 20.0  # seconds after which a start that leads to no guest is waited for no longer
TURN = "it waits for its turn in the start order"


class Room(NamedTuple):
    """What this node has for its guests."""

    memory: int | None = None  # MiB for all of them together; None: not known, then nobody waits for it
    slots: int = 2  # starts at once
    pause: float = 0.0  # seconds from the start of one `order` to that of the next


class Guest(NamedTuple):
    """A VM, as far as starting goes; memory in MiB."""

    name: str
    order: int
    memory: int
    running: bool = False
    begun: float | None = None  # seconds since its start was queued here

    @property
    def need(self) -> int:
        return self.memory + OVERHEAD

    @property
    def starts(self) -> bool:
        """Its job is queued, and may still lead to a guest."""
        return not self.running and self.begun is not None and self.begun < PATIENCE


def in_turn(actions: list[Action], guests: list[Guest], room: Room) -> list[Action]:
    """The same actions, but those starts that have to wait, and why. `guests`: all VMs, by order."""
    verbs = {action.vm: action.verb for action in actions if action.verb in (START, TAKE)}
    why = _waiting([guest for guest in guests if guest.name in verbs], guests, room, verbs)
    late = {action: Action(WAIT, action.vm, why[action.vm]) for action in actions if action.vm in why}
    return [late.get(action, action) if action.verb in (START, TAKE) else action for action in actions]


def _waiting(wanted: list[Guest], guests: list[Guest], room: Room, verbs: dict[str, str]) -> dict[str, str]:
    """What was queued once is queued again, as any job is, and nobody waits for it for ever.

    What comes while it runs needs memory, and waits for no other's start.
    """
    used = sum(guest.need for guest in guests if guest.running or guest in wanted and guest.begun is not None)
    busy = sum(guest.starts for guest in wanted)
    out: dict[str, str] = {}
    before = [guest for guest in guests if guest.running or guest.starts]
    for guest in wanted:
        if guest.begun is not None:
            continue
        if room.memory is not None and used + guest.need > room.memory:
            left = max(0, room.memory - used)
            out[guest.name] = f"no memory for it here: it needs {guest.need} MiB, {left} of {room.memory} are left"
            continue
        if verbs[guest.name] == START:
            if busy >= room.slots or any(_holds(other, guest, room) for other in before):
                out[guest.name] = TURN
            else:
                busy += 1
        used += guest.need
        before.append(guest)
    return out


def _holds(other: Guest, guest: Guest, room: Room) -> bool:
    """Does `other`, of a lower order, keep this one waiting? Only with a pause: without, the slots keep the order."""
    if not room.pause or other.order >= guest.order:
        return False
    return not other.running or other.begun is not None and other.begun < room.pause


def too_small(guests: list[Guest], room: Room) -> str:
    """Why this node cannot hold all these VMs at once, or nothing."""
    need = sum(guest.need for guest in guests)
    if room.memory is None or need <= room.memory:
        return ""
    return f"this node cannot hold all VMs: they need {need} MiB, it has {room.memory} for them"
