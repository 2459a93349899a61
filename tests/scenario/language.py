"""The language of tests/scenarios/*.scenario: what the pair looks like, what happens, what must be true."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from kisscluster.decide.quorum import FACTS

FOLDER = Path(__file__).parent.parent / "scenarios"
WORLDS = ("simulator", "container", "virtual")
NODES, NETWORKS, VMS = ("node1", "node2"), ("production", "storage"), ("web1", "web2")
HEADER = ("title", "group", "happens", "admin", "survived", "config", "vm web1", "vm web2", "fence", "daily")
SURVIVED = ("yes", "no", "a human decides")
FENCES = ("works", "broken")
TIMELINE = "timeline:"
PAUSE = "longest pause:"  # the last line of a timeline: what each guest waited for a write, at most

_NODE, _NET, _VM = r"(node[12])", r"(production|storage)", r"(web[12])"
_SECONDS = r"(\d+(?:\.\d+)?)"

# what an administrator would say; each with the pattern of its arguments
FAULTS: dict[str, str] = {
    "power off": _NODE,
    "power on": _NODE,
    "panic": _NODE,
    "hang": _NODE,
    "wake": _NODE,
    "unplug": f"{_NODE} {_NET}",
    "plug": f"{_NODE} {_NET}",
    "drop": f"{_NODE} {_NET}(?: (in|out))?",
    "delay": f"{_NODE} {_NET} {_SECONDS}",
    "duplicate": f"{_NODE} {_NET}",
    "reorder": f"{_NODE} {_NET}",
    "narrow": f"{_NODE} {_NET}",  # the memory of a guest that moves there takes long
    "pass": f"{_NODE} {_NET}",
    # the two ports of the switch no longer hear each other (a rule between the nodes' production addresses, both
    # ways, ICMP too), while both still reach the switch and the ping address
    "part": "(production)",
    "join": "(production)",
    "switch": "(off|on)",
    "ping address": "(off|on)",
    "kill": rf"{_NODE} (kc-heartbeat|kc-fence-peer|kc-migrate|qemu)(?: {_VM})?",
    "end": rf"{_NODE} (qemu) {_VM}",  # as a guest that switches itself off does
    "stop": rf"{_NODE} (kc-heartbeat|qemu)(?: {_VM})?",
    "continue": rf"{_NODE} (kc-heartbeat|qemu)(?: {_VM})?",
    "fail disk": f"{_NODE} {_VM}",
    "mend disk": f"{_NODE} {_VM}",
    "replace disk": f"{_NODE} {_VM}",  # with an empty one
    "fill run": _NODE,
    "free run": _NODE,
    "clock": rf"{_NODE} ([+-]\d+)",
    "slow disk": f"{_NODE} {_SECONDS}",  # below /var: what is synced takes so long
    "quick disk": _NODE,
    # the next of these commands that looks at this state file stands still right after that, or before it writes it; or
    # before it calls this program; a number at the end: not at the first of these moments, at that one
    "stall": rf"{_NODE} (kc-[a-z-]+) (\S+) {_SECONDS}(?: ([1-9]\d*))?",
    "reboot": _NODE,
    # a line for the shell, `;` and `&&` as kc-status prints them; [N]: the exit status that is expected instead of 0
    "type": rf"{_NODE} (?:\[(\d+)\] )?(\S.*)",
}
CONDITIONS: dict[str, str] = {
    "healthy": "healthy",
    "runs": rf"{_VM} runs on (node1|node2|both|one|none)",
    "frozen": rf"{_VM} is frozen on {_NODE}",
    "disk": rf"{_VM} is (Primary|Secondary|Connected|WFConnection|StandAlone|SyncSource|SyncTarget|"
            rf"UpToDate|Consistent|Outdated|Inconsistent|Diskless) on {_NODE}",
    "moves": rf"{_VM} moves from {_NODE}",  # its memory is on the cable
    "mark": rf"{_VM} is (ahead|even|yielded|claimed|pending) on {_NODE}",
    "decides": rf"{_NODE} decides (all|home|none|hold)",
    "sees": rf"{_NODE} sees (\S+)",
    "says": rf"{_NODE} says (\S.*)",
    "resets": rf"{_NODE} resets",
    "off": rf"{_NODE} is off",
}


class Mistake(ValueError):
    """A scenario file that does not say what it means; the text names file and line."""


@dataclass(frozen=True)
class Condition:
    """Something that is true of the pair or not, at a moment."""

    text: str
    kind: str
    words: tuple[str, ...]
    negated: bool = False

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Raises Mistake for what is no condition."""
        negated = text.startswith("not ")
        for kind, pattern in CONDITIONS.items():
            if match := re.fullmatch(pattern, text.removeprefix("not ")):
                if kind == "sees":
                    _check_facts(match[2])
                return cls(text, kind, match.groups(), negated)
        raise Mistake(f"{text!r}: no such condition")

    def __str__(self) -> str:
        return self.text


def _check_facts(text: str) -> None:
    for part in text.split(","):
        name, _, value = part.partition("=")
        if value not in FACTS.get(name, ()):
            raise Mistake(f"{part!r}: expected one of {', '.join(FACTS)} and its value")


@dataclass(frozen=True)
class Step:
    """One line: a fault or a repair, a wait, or an expectation."""

    line: int
    text: str
    verb: str  # a key of FAULTS, or wait, within, for, always, never
    words: tuple[str, ...] = ()
    seconds: float = 0.0
    condition: Condition | None = None

    @property
    def changes(self) -> bool:
        """Does it do something to the pair?"""
        return self.verb in FAULTS

    def __str__(self) -> str:
        return self.text


@dataclass
class Scenario:
    """One file."""

    name: str
    header: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # world: why it cannot run there
    steps: list[Step] = field(default_factory=list)
    timeline: str = ""

    @property
    def worlds(self) -> list[str]:
        """Where it runs."""
        return [world for world in WORLDS if world not in self.left_out]

    @property
    def daily(self) -> bool:
        """Is it played in the real worlds by `make daily` too, instead of by `make worlds` alone?"""
        return "daily" in self.header

    def settings(self, key: str) -> dict[str, str]:
        """`config: settle=5 deadtime=3` as a dictionary."""
        return dict(word.split("=", 1) for word in shlex.split(self.header.get(key, "")))

    def fences(self) -> dict[str, str]:
        """`fence: node1 node2=broken`: the nodes that have a fence command, and whether it works."""
        words = [word.partition("=") for word in self.header.get("fence", "").split()]
        return {node: state if equals else "works" for node, equals, state in words}


def parse(name: str, text: str) -> Scenario:
    """A scenario; raises Mistake naming the line."""
    out = Scenario(name)
    body, _, out.timeline = text.partition(f"\n{TIMELINE}\n")
    for number, raw in enumerate(body.splitlines(), 1):
        line = " ".join(raw.partition("#")[0].split()) if raw.lstrip().startswith("#") else raw.strip()
        try:
            if line:
                _take(out, number, line)
        except Mistake as mistake:
            raise Mistake(f"{name}.scenario:{number}: {mistake}") from None
    for key in ("title", "group", "happens", "admin", "survived"):
        if not out.header.get(key):
            raise Mistake(f"{name}.scenario: {key}: is missing")
    if out.header["survived"] not in SURVIVED:
        raise Mistake(f"{name}.scenario: survived: expected one of {', '.join(SURVIVED)}")
    if out.header.get("daily", "yes") != "yes":
        raise Mistake(f"{name}.scenario: daily: {out.header['daily']}: expected yes, or no such line")
    for node, state in out.fences().items():
        if node not in NODES or state not in FENCES:
            raise Mistake(f"{name}.scenario: fence: {node}={state}: expected node1, node1=broken and the like")
    return out


def _take(scenario: Scenario, number: int, line: str) -> None:
    key, colon, value = line.partition(":")
    if not scenario.steps and colon and key in HEADER:
        scenario.header[key] = value.strip()
    elif not scenario.steps and colon and key.startswith("not in ") and key[7:] in WORLDS:
        scenario.left_out[key[7:]] = value.strip()
    else:
        scenario.steps.append(parse_step(line, number))


def parse_step(line: str, number: int = 0) -> Step:
    """One line of the body; raises Mistake."""
    if match := re.fullmatch(rf"(wait|within|for) {_SECONDS}(?: (.*))?", line):
        verb, seconds, rest = match.groups()
        if (verb == "wait") != (rest is None):
            raise Mistake(f"{line!r}: expected wait SECONDS, within SECONDS CONDITION or for SECONDS CONDITION")
        return Step(number, line, verb, seconds=float(seconds), condition=Condition.parse(rest) if rest else None)
    if match := re.fullmatch(r"(always|never) (.*)", line):
        return Step(number, line, match[1], condition=Condition.parse(match[2]))
    for verb, pattern in FAULTS.items():
        if match := re.fullmatch(f"{verb} {pattern}", line):
            return _checked(Step(number, line, verb, tuple(word or "" for word in match.groups())))
    raise Mistake(f"{line!r}: no such step; faults are {', '.join(FAULTS)}")


def _checked(step: Step) -> Step:
    if step.verb in ("kill", "end", "stop", "continue"):
        _, process, vm = step.words
        if (process == "kc-heartbeat") == bool(vm):
            raise Mistake(f"{step}: qemu, kc-fence-peer and kc-migrate are named with their VM, kc-heartbeat without")
    return step


def load(path: Path) -> Scenario:
    """The scenario of a file."""
    return parse(path.stem, path.read_text())


def load_all(world: str | None = None) -> list[Scenario]:
    """Every scenario (of a world), by name."""
    found = [load(path) for path in sorted(FOLDER.glob("*.scenario"))]
    return [scenario for scenario in found if world is None or world in scenario.worlds]
