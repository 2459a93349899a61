"""Every scenario that can run in the container pair."""

from __future__ import annotations

import pytest

from tests.lab.container import ContainerPair
from tests.scenario import language, real


@pytest.mark.parametrize("scenario", language.load_all("container"), ids=lambda scenario: scenario.name)
def test_scenario(cluster: ContainerPair, scenario: language.Scenario) -> None:
    real.run(scenario, cluster, "container")
