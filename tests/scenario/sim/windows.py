"""Where a command can be overtaken: between the looks by which it makes up its mind and the deed that follows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.scenario.sim.moves import MOVES, Draw, InForce

Kind = tuple[str, str, str]  # program, deed, who is heard

MOMENT = 0.001  # seconds before a look at which the line is played that makes it a long one
NEAR = 400  # looks of all processes
SOME = 100
MOST = 1000  # deeds; a run that goes on for longer has shown enough
DULL = ("plan", "alive", "ip")  # what nobody decides by
HEARD = "links"
HEARTBEAT = "kc-heartbeat"
MARKS = ("ahead", "even", "yields", "claim")  # what permits something, or takes a permission away
FEW, MANY, TIMES = 1, 4, 2  # kinds of windows of one run, and what is new beside them; how often each
WHOLE = 0.3  # of the strikes
STANDS = (0.3, 1.0, 2.5, 4.0)  # seconds
INTO = (0.0, 0.0, 0.0, 0.02, 0.2, 0.7)  # seconds after it began to stand still


class Look(NamedTuple):
    """One look at a state file, or the last moment before one is changed or a program called."""

    time: float
    node: str
    program: str
    name: str
    process: object


class Window(NamedTuple):
    """Where a command may be made to stand still: at this look of its, `number`-th from `time` on."""

    time: float  # seconds since the run began
    node: str
    program: str
    name: str
    number: int
    deed: str  # what it is about to change
    seen: str  # whom that node hears

    @property
    def kind(self) -> Kind:
        return self.program, self.deed, self.seen


class Strike(NamedTuple):
    """At this moment of a run something else: a command stands still, and something happens meanwhile."""

    time: float
    steps: list[Draw]
    whole: bool  # until the pair is healthy again


class Record:
    """The looks and deeds of all commands, while `on`; `seen`: whom a node hears at that moment."""

    def __init__(self, seen: Callable[[str], str]) -> None:
        self.on = False
        self.seen = seen
        self.looks: list[Look] = []
        self.deeds: list[int] = []  # numbers of looks
        self.views: dict[int, str] = {}

    def look(self, time: float, node: str, program: str, name: str, process: object) -> None:
        if self.on and program:
            if name == HEARD and program != HEARTBEAT:
                self.views[len(self.looks)] = self.seen(node)
            self.looks.append(Look(time, node, program, name, process))

    def deed(self, process: object) -> None:
        """What this process has looked at last, it changes now."""
        if self.on and self.looks and self.looks[-1].process is process and self.looks[-1].name not in DULL:
            self.deeds.append(len(self.looks) - 1)
            self.views[len(self.looks) - 1] = self.seen(self.looks[-1].node)

    def windows(self, began: float, rng: random.Random) -> list[Window]:
        """Right before each deed, at the last look at anything else before it, and at any look of that process.

        And at looks at what is heard of the peer, whatever comes of them.
        """
        out = []
        for number in self.deeds[:MOST]:
            deed = self.looks[number]
            if deed.program == HEARTBEAT and not deed.name.startswith(MARKS):
                continue  # what it tells is no deed
            for at in (number, self._other(number), rng.choice(self._looks(number))):
                out.append(self._window(at, deed.name, self.views[number], began))
        heard = [at for at in self.views if self.looks[at].name == HEARD]
        out += [self._window(at, HEARD, self.views[at], began) for at in rng.sample(heard, min(len(heard), SOME))]
        return [window for window in out if window.time > 0]

    def _looks(self, number: int) -> list[int]:
        """What that process had looked at, the last look first."""
        process = self.looks[number].process
        return [at for at in range(number, max(-1, number - NEAR), -1) if self.looks[at].process is process]

    def _other(self, number: int) -> int:
        name = self.looks[number].name
        return next((at for at in self._looks(number) if self.looks[at].name != name), number)

    def _window(self, at: int, deed: str, seen: str, began: float) -> Window:
        look, count, first = self.looks[at], 0, at
        while first >= 0 and self.looks[first].time > look.time - MOMENT / 2:
            count += self.looks[first][1:4] == look[1:4]
            first -= 1
        return Window(look.time - MOMENT - began, *look[1:4], count, deed, seen)


def choose(rng: random.Random, windows: list[Window], tried: Counter[Kind]) -> list[Window]:
    """What was tried least, each kind of window as often as any other, marks more often; more where much is new."""
    kinds: dict[Kind, list[Window]] = {}
    for window in windows:
        kinds.setdefault(window.kind, []).append(window)
    first = sorted(kinds, key=lambda kind: (tried[kind] + rng.random()) / _weight(kind[1]))
    new = sum(not tried[kind] for kind in kinds)
    chosen = first[:FEW + min(new, MANY)]
    tried.update(chosen * TIMES)
    return [rng.choice(kinds[kind]) for kind in chosen for _ in range(TIMES)]


def _weight(deed: str) -> int:
    return 8 if deed.startswith(MARKS) else 5 if deed == HEARD else 1


def strike(rng: random.Random, played: list[tuple[float, str]], window: Window) -> Strike:
    """A command that stands still before a deed, and something that happens meanwhile."""
    force, now = InForce(), 0.0
    again = list[str]()  # what has been repaired, and may break once more
    rest = list(played)
    while rest and now + rest[0][0] <= window.time:
        gap, line = rest.pop(0)
        again += [move.fault for move in force.moves if move.repair == line and move in MOVES]
        now += gap
        force.after(line)
    stall = f"stall {window.node} {window.program} {window.name} {rng.choice(STANDS)} {window.number}"
    possible = force.possible(MOVES)
    repairs = [move.repair for move in force.moves if move in MOVES]
    pools = [[line for line in pool if line in possible] for pool in (repairs, repairs, again, again, possible)]
    line = rng.choice(rng.choice([pool for pool in pools if pool]))
    out = [Draw(0.0, 0, 0.0, stall), Draw(round(MOMENT + rng.choice(INTO), 3), 0, 0.0, line)]
    force.after(line)
    out += _later(force, rest, now + rest[0][0] - window.time) if rest and rng.random() < 0.4 else []
    return Strike(window.time, out, rng.random() < WHOLE)


def _later(force: InForce, rest: list[tuple[float, str]], gap: float) -> list[Draw]:
    """What came next in that run, where it still can."""
    out = []
    for number, (own, line) in enumerate(rest):
        if line in force.possible(MOVES):
            out.append(Draw(max(0.0, gap if number == 0 else own), 0, 0.0, line))
            force.after(line)
    return out
