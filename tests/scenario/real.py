"""Run a scenario in a laboratory: real nodes, real faults, and what the design promises about them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.lab import setup
from tests.lab.pair import NODES, VMS, Pair, longest_pause
from tests.lab.strip import BROKEN, COMMAND, PowerStrip
from tests.scenario.faults import Faults
from tests.scenario.invariants import Invariants
from tests.scenario.language import Scenario, Step, load_all
from tests.scenario.view import View
from tests.scenario.worlds import WORLDS, World

ON_ITS_WAY = 0.5  # seconds that a dot may take from a guest to us
READY = 150.0


class Late(AssertionError):
    """It did not come true within its bound: the pair is at fault, or too slow; nothing forbidden was seen."""


class Watcher:
    """always and never: looks at the pair beside the steps, from their line to the end."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.steps: list[tuple[Step, float]] = []
        self.broken: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def add(self, step: Step) -> None:
        """Watch this from now on."""
        self.steps.append((step, time.monotonic()))

    def _watch(self) -> None:
        while not self._end.wait(self.view.world.every):
            for step, since in list(self.steps):
                if not exact(step):
                    self._look(step, since)

    def _look(self, step: Step, since: float) -> None:
        assert step.condition
        if self.view.holds(step.condition, cheap=True) != (step.verb == "always"):
            self.broken.append(f"line {step.line}: {step}: broken {time.monotonic() - since:.1f} s later")

    def check(self) -> None:
        """Has everything been as it should be, until now?"""
        assert not self.broken, self.broken[0]
        for step, since in self.steps:
            if exact(step):
                check_dots(self.view, step, since)

    def close(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join(30)


def exact(step: Step) -> bool:
    """Can it be told from the guests' dots alone, every one of them?"""
    condition = step.condition
    return bool(condition and condition.kind == "runs" and condition.words[1] in NODES and not condition.negated)


def check_dots(view: View, step: Step, since: float) -> None:
    """`always VM runs on NODE`: there alone, without a pause; `never`: not one dot."""
    assert step.condition
    vm, node = step.condition.words
    dots = view.dots(vm, since + ON_ITS_WAY)
    wrong = [dot for dot in dots if (dot.node == node) != (step.verb != "never")]
    assert not wrong, f"line {step.line}: {step}: a dot on {wrong[0].node} {wrong[0].time - since:.1f} s later"
    if step.verb != "never":
        pause = longest_pause(dots, since)
        assert pause <= view.world.calm, f"line {step.line}: {step}: it paused for {pause:.1f} s"


class Runner:
    """One scenario in one world."""

    def __init__(self, scenario: Scenario, pair: Pair, world: World) -> None:
        self.scenario, self.pair, self.world = scenario, pair, world
        self.view = View(pair, world)
        self.faults = Faults(self.view)
        self.started = time.monotonic()
        self.told: list[str] = []

    def tell(self, text: str) -> None:
        """One line of the timeline, for whoever looks for a fault or for what a scenario costs."""
        self.told.append(f"{time.monotonic() - self.started:6.1f} s  {text}")

    def run(self) -> str:
        """Prepare, do every step, check, and put everything back that can be; the timeline."""
        strip = PowerStrip(self.pair.net, self.faults.cut) if self.scenario.fences() else None
        try:
            prepare(self.scenario, self.pair, self.view)
            self.tell("begin")
            self._play()
        finally:
            if strip:
                strip.close()
        return "\n".join([self.scenario.name, *self.told])

    def _play(self) -> None:
        watcher, invariants = Watcher(self.view), Invariants(self.scenario, self.view)
        try:
            for step in self.scenario.steps:
                self._step(step, watcher, invariants)
            self._finish(watcher, invariants)
        except AssertionError as error:
            raise type(error)("\n".join([str(error), f"{self.scenario.name} in the {self.world.name} world:",
                                         *self.told])) from error
        finally:
            watcher.close()
            self.faults.repair()

    def _step(self, step: Step, watcher: Watcher, invariants: Invariants) -> None:
        begun = time.monotonic()
        if step.changes:
            invariants.note(step.verb, step.words)
            self.faults.do(step)
        elif step.verb in ("always", "never"):
            watcher.add(step)
        else:
            getattr(self, f"_{step.verb}")(step)
        watcher.check()
        invariants.check()
        self.tell(f"{step}: {time.monotonic() - begun:.2f} s")

    def _finish(self, watcher: Watcher, invariants: Invariants) -> None:
        watcher.check()
        watcher.close()
        only_storage = all("storage" in step.words for step in self.scenario.steps if step.changes)
        invariants.check_end(only_storage and any(step.changes for step in self.scenario.steps))
        self.tell("end")

    @staticmethod
    def _wait(step: Step) -> None:
        time.sleep(step.seconds)

    def _within(self, step: Step) -> None:
        assert step.condition
        holds = partial(self.view.holds, step.condition)
        self._until(holds, self.world.bound(step.seconds), f"line {step.line}: {step}")

    def _for(self, step: Step) -> None:
        """It may take a moment until a real world can be seen to be so; from then on it must stay so."""
        assert step.condition
        holds = partial(self.view.holds, step.condition)
        what = f"line {step.line}: {step}"
        self._until(holds, self.world.bound(0), what)
        since, written = time.monotonic(), self._written(step)
        while time.monotonic() < since + step.seconds:
            if exact(step):
                time.sleep(self.world.poll)
                check_dots(self.view, step, since)
            else:
                time.sleep(self.world.poll)
                assert holds(), f"{what}: no more after {time.monotonic() - since:.1f} s"
                assert self._written(step) == written, f"{what}: something was written below it"

    def _written(self, step: Step) -> int:
        """What a frozen guest has written must not change in the disk below DRBD either."""
        condition = step.condition
        if not condition or condition.kind != "frozen" or condition.negated:
            return 0
        vm, node = condition.words
        return self.pair.counter(node, vm)

    def _until(self, holds: Callable[[], bool], bound: float, what: str) -> None:
        end = time.monotonic() + bound
        while not holds():
            if time.monotonic() > end:
                raise Late(f"{what}: not within {bound:.1f} s")
            time.sleep(self.world.poll)


def run(scenario: Scenario, pair: Pair, world: str) -> str:
    """The timeline; raises AssertionError with it when something is not as the scenario says."""
    return Runner(scenario, pair, WORLDS[world]).run()


def marked(world: str) -> list[Any]:
    """For pytest.mark.parametrize: the scenarios of a world; `-m daily` chooses those of `make daily`."""
    return [pytest.param(scenario, id=scenario.name, marks=[pytest.mark.daily] * scenario.daily)
            for scenario in load_all(world)]


# Before the first step


def wanted_files(scenario: Scenario, defaults: Mapping[str, object]) -> dict[str, str]:
    """The configuration that a scenario asks for, by path."""
    states = scenario.fences()
    fences = {node: COMMAND.format(node=node) if states[node] == "works" else BROKEN for node in states}
    changes: dict[str, object] = {**defaults, **scenario.settings("config")}
    files = {setup.CONFIG: setup.kisscluster_conf(fences, **changes)}
    for vm in VMS:
        settings: dict[str, object] = {**setup.GUESTS, **scenario.settings(f"vm {vm}")}
        files[f"/etc/kisscluster/vm/{vm}.conf"] = setup.vm_conf(vm, **settings)
    return files


def prepare(scenario: Scenario, pair: Pair, view: View) -> None:
    """Write what differs from the pair as it is, and wait until both nodes go by it."""
    files = wanted_files(scenario, view.world.settings)
    changed = {path for node in NODES for path, text in files.items() if pair.read(node, path) != text}
    for node in NODES:
        for path in changed:
            pair.write(node, path, files[path])
    if setup.CONFIG in changed:
        for node in NODES:
            pair.run(node, "systemctl restart kc-heartbeat.service")
    if changed:
        with ThreadPoolExecutor(len(NODES)) as pool:  # at once, instead of with the tick
            list(pool.map(lambda node: pair.run(node, "kc-quorum -q", check=False), NODES))
        _until_told(pair, view)
    view.look_at_both()


def _until_told(pair: Pair, view: View) -> None:
    """Both nodes have read the same files and say so to each other, and nothing is left to settle."""
    def same() -> bool:
        command = "cat /run/kisscluster/local/config /run/kisscluster/peer/local/config"
        found = [pair.run(node, command, check=False).stdout.split() for node in NODES]
        looks = view.look_at_both(status=True)
        return (len(set(sum(found, []))) == 1 and all(len(each) == 2 for each in found) and len(looks) == len(NODES)
                and all(look.code == 0 and look.sees("steady=yes,unbroken=yes") for look in looks))

    pair.wait(same, READY, "both nodes go by the scenario's configuration")
