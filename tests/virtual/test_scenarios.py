"""Every scenario that can run on the pair with the real kernel and real DRBD."""

from __future__ import annotations

import pytest

from tests.lab.virtual import VirtualPair
from tests.scenario import language, real


@pytest.mark.parametrize("scenario", real.marked("virtual"))
def test_scenario(used: VirtualPair, scenario: language.Scenario) -> None:
    print(real.run(scenario, used, "virtual"))
