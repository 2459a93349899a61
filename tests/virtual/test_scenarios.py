"""Every scenario that can run on the pair with the real kernel and real DRBD."""

from __future__ import annotations

import pytest

from tests.scenario import language, real
from tests.virtual.conftest import Kept


@pytest.mark.parametrize("scenario", real.marked("virtual"))
def test_scenario(kept: Kept, scenario: language.Scenario) -> None:
    """A bound that is missed is tried once more, on another pair: two tcg nodes on two busy processors stand still for
    seconds. What must never be fails at once."""
    try:
        print(real.run(scenario, kept.take(), "virtual"))
    except real.Late as late:
        print(f"once more: {late}")
        kept.close()
        print(real.run(scenario, kept.take(), "virtual"))
