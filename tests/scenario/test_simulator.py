"""Every scenario in the simulator: its promises, the invariants, and the timeline that stands in its file."""

from __future__ import annotations

import pytest

from tests.scenario.language import FOLDER, Mistake, Scenario, load, load_all, parse, parse_step
from tests.scenario.sim.play import Play


@pytest.mark.parametrize("scenario", load_all("simulator"), ids=lambda scenario: scenario.name)
def test_simulated(scenario: Scenario) -> None:
    """The same seed gives the same story to the hundredth; what changes it on purpose runs `make golden`."""
    assert Play(scenario).run().timeline() == scenario.timeline.rstrip("\n")


def test_there_are_scenarios() -> None:
    assert len(list(FOLDER.glob("*.scenario"))) > 2
    for path in FOLDER.iterdir():
        assert path.suffix == ".scenario", path
        assert load(path).steps, path


@pytest.mark.parametrize("line", [
    "power off node3", "unplug node1 lan", "within 3", "wait 3 healthy", "within x healthy", "for 2 web1 flies",
    "kill node1 qemu", "kill node1 kc-heartbeat web1", "within 3 node1 sees storage=maybe", "drop node1 storage up"])
def test_mistakes_are_told(line: str) -> None:
    with pytest.raises(Mistake):
        parse_step(line)


def test_a_mistake_names_its_line() -> None:
    text = "title: x\ngroup: x\nhappens: x\nadmin: x\nsurvived: yes\n\npower off node9\n"
    with pytest.raises(Mistake, match="^x.scenario:7: "):
        parse("x", text)
