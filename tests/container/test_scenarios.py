"""Every scenario that can run in the container pair; several pairs at once, since each one mostly waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import cast

import pytest

from tests.container.conftest import healthy, make_healthy
from tests.lab import isolate, package
from tests.lab.container import ContainerPair
from tests.lab.pair import NODES
from tests.scenario import language, real

PAIRS = 3
Outcome = tuple[BaseException | None, str]


class Pairs:
    """One pair a thread, and what became of each scenario."""

    def __init__(self, scenarios: list[language.Scenario]) -> None:
        isolate.enter()
        self.deb = package.deb()
        self.mine = threading.local()
        self.all: list[ContainerPair] = []
        self.pool = ThreadPoolExecutor(min(PAIRS, len(scenarios)))
        self.outcomes: dict[str, Future[Outcome]] = {
            scenario.name: self.pool.submit(partial(self._play, scenario)) for scenario in scenarios}

    def _play(self, scenario: language.Scenario) -> Outcome:
        try:
            pair = self._pair()
            if not healthy(pair):
                make_healthy(pair)
        except BaseException as error:
            return error, ""
        try:
            return None, real.run(scenario, pair, "container")
        except BaseException as error:
            return error, "\n".join(f"--- {node}\n{pair.story(node)}" for node in NODES)

    def _pair(self) -> ContainerPair:
        if not hasattr(self.mine, "pair"):
            self.mine.pair = ContainerPair(self.deb)
            self.all.append(self.mine.pair)
        pair: ContainerPair = self.mine.pair
        return pair

    def close(self) -> None:
        """Let nothing begin any more, and leave nothing behind."""
        self.pool.shutdown(cancel_futures=True)
        for pair in self.all:
            pair.close()


@pytest.fixture(scope="module")
def pairs(request: pytest.FixtureRequest) -> Iterator[Pairs]:
    """Begins with all scenarios that are to be tested."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen = [item.callspec.params["scenario"] for item in items if item.function is test_scenario]
    pairs = Pairs(cast(list[language.Scenario], chosen))
    yield pairs
    pairs.close()


@pytest.mark.parametrize("scenario", real.marked("container"))
def test_scenario(pairs: Pairs, scenario: language.Scenario) -> None:
    error, story = pairs.outcomes[scenario.name].result()
    print(story)
    if error:
        raise error
