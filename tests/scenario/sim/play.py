"""A scenario file on the simulated pair."""

from __future__ import annotations

from collections.abc import Callable

from kisscluster.commands.common import place_of
from kisscluster.decide.facts import Links, NodeFacts
from kisscluster.decide.quorum import FACTS, decide
from kisscluster.see.files import Place, node_facts
from tests.scenario.language import PAUSE, Condition, Scenario, Step
from tests.scenario.sim import faults
from tests.scenario.sim.world import World

GRID = 0.05  # seconds between two looks at what must always or never be true
MARK_FOLDERS = {"ahead": "ahead", "even": "even", "yielded": "yields", "claimed": "claim", "pending": "pending"}


class Failed(AssertionError):
    """The scenario's promise does not hold; the text tells the story."""


class Play:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        vms = {vm: scenario.settings(f"vm {vm}") for vm in ("web1", "web2")}
        self.world = World({"settle": "3", **scenario.settings("config")}, vm_settings=vms,
                           fences=scenario.fences())
        self.world.obedient = any("obeys" in settings for settings in vms.values())
        self.watched: list[Step] = []

    def run(self) -> World:
        """Raises Failed where a step or an invariant does not hold."""
        world = self.world
        world.begin()
        for step in self.scenario.steps:
            self._step(step)
            if world.judge.found:
                raise Failed(self._story(step, "; ".join(world.judge.found))) from world.judge.cause
        world.log("", f"{PAUSE} {world.judge.pauses()}")
        return world

    def _step(self, step: Step) -> None:
        world = self.world
        if step.changes:
            faults.do(world, step)
            if self.scenario.header["survived"] == "no" and world.nobody_can_tell():
                world.judge.excuse()
            self._pass(0.0)
        elif step.condition is None:
            self._pass(step.seconds)
        elif step.verb == "within":
            self._within(step, step.condition)
        elif step.verb == "for":
            end = world.now + step.seconds
            while world.now < end - 1e-9:
                self._pass(GRID)
                if not self.holds(step.condition):
                    raise Failed(self._story(step, f"does not hold at {world.now:.2f}"))
        else:
            self.watched.append(step)

    def _within(self, step: Step, condition: Condition) -> None:
        end = self.world.now + step.seconds
        while not self.holds(condition):
            if self.world.now > end:
                raise Failed(self._story(step, "does not come true"))
            self._pass(GRID)
        self.world.log("", f"-- {condition}")

    def _pass(self, seconds: float) -> None:
        """Time passes; what must always or never be true is looked at."""
        end = self.world.now + seconds
        while True:
            self.world.run(min(GRID, max(0.0, end - self.world.now)))
            self.world.calm.look()
            for step in self.watched:
                if step.condition and self.holds(step.condition) == (step.verb == "never"):
                    raise Failed(self._story(step, f"broken at {self.world.now:.2f}"))
            if self.world.now >= end - 1e-9:
                return

    def _story(self, step: Step, why: str) -> str:
        return f"{self.scenario.name}.scenario:{step.line}: {step}: {why}\n{self.world.timeline()}"

    def holds(self, condition: Condition) -> bool:
        """Is it true now?"""
        return CONDITIONS[condition.kind](self.world, *condition.words) != condition.negated


def _runs(world: World, vm: str, where: str) -> bool:
    nodes = world.judge.running(vm)
    return {"one": len(nodes) == 1, "none": not nodes, "both": len(nodes) == 2}.get(where, where in nodes)


def _frozen(world: World, vm: str, node: str) -> bool:
    word = world.mirrors[vm].sides[node].word()
    return word is not None and word.frozen


def _disk(world: World, vm: str, state: str, node: str) -> bool:
    word = world.mirrors[vm].sides[node].word()
    return word is not None and state in (word.connection, word.role, word.disk)


def _moves(world: World, vm: str, node: str) -> bool:
    machine = world.machines[node]
    return machine.on and (machine.run.peek(f"migration/{vm}") or "").startswith("moving")


def _mark(world: World, vm: str, mark: str, node: str) -> bool:
    machine = world.machines[node]
    store = machine.var if mark == "ahead" else machine.run
    return machine.on and store.has(f"{MARK_FOLDERS[mark]}/{vm}")


def _decides(world: World, node: str, word: str) -> bool:
    return ask(world, node, lambda place: decide(node_facts(place)).word) == word


def _sees(world: World, node: str, facts: str) -> bool:
    machine = world.machines[node]
    if not machine.on or Links.parse(machine.run.peek("links") or "") is None:
        return False
    told = world.inside(node, lambda call: seen(node_facts(place_of(call))))
    return all(told[name] == value for name, _, value in (part.partition("=") for part in facts.split(",")))


def seen(facts: NodeFacts) -> dict[str, str]:
    """Every fact that `kc-quorum --what-if` could suppose, as it is."""
    known = {**facts._asdict(), **facts.me._asdict(), **facts.links._asdict(), "peer.fit": facts.peer.fit}
    return {name: values[0] if known[name] else values[1] for name, values in FACTS.items()}


def _says(world: World, node: str, text: str) -> bool:
    if not world.machines[node].on:
        return False
    facts = world.status(node)
    problems = [f"{item['about']}: {item['text']} {item['command']}" for item in facts["problems"]]
    return text in "\n".join([facts["reason"], *problems, *(str(row) for row in facts["vms"])])


def ask(world: World, node: str, question: Callable[[Place], str]) -> str:
    """What a command on that node would find."""
    if not world.machines[node].on or world.machines[node].life.hung:
        return ""
    return str(world.inside(node, lambda call: question(place_of(call))))


CONDITIONS: dict[str, Callable[..., bool]] = {
    "healthy": lambda world, *_: world.healthy(),
    "runs": _runs, "frozen": _frozen, "disk": _disk, "moves": _moves, "mark": _mark,
    "decides": _decides, "sees": _sees, "says": _says,
    "resets": lambda world, node: world.machines[node].resets > 0,
    "off": lambda world, node: not world.machines[node].on,
}
