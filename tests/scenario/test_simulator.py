"""Every scenario in the simulator: its promises, the invariants, and the timeline that stands in its file."""

from __future__ import annotations

import pytest

from kisscluster.decide.facts import NodeFacts
from kisscluster.decide.quorum import FACTS, what_if
from tests.scenario.language import FOLDER, Mistake, Scenario, load, load_all, parse, parse_step
from tests.scenario.search import Searcher, Steps
from tests.scenario.sim.play import Play, seen
from tests.scenario.sim.trial import Found


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


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FACTS.items() for value in values])
def test_what_can_be_supposed_can_be_seen(name: str, value: str) -> None:
    """The facts of `kc-quorum --what-if`, by the same names."""
    others = seen(NodeFacts())
    assert seen(what_if({name: value})) == {**others, name: value}
    assert parse_step(f"within 1 node1 sees {name}={value}").condition


def test_a_finding_is_shrunk_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run tells the moments at which its steps came, with the noise of floating point."""
    def again(_searcher: Searcher, steps: Steps, seed: int, lag: float, base: int) -> Found | None:
        played = [(gap + 2e-14, line) for gap, line in steps]
        return Found("1.00 broken", played, base, seed, lag) if "hang node1" in str(steps) and len(steps) > 1 else None

    monkeypatch.setattr(Searcher, "again", again)
    found = Found("7.31 broken", [(5.4123, "reboot node1"), (0.26, "wake node1"), (0.7, "hang node1")], 0, 1, 0.3)
    searcher = Searcher.__new__(Searcher)
    assert searcher.shrink(found).steps == [(0.0, "wake node1"), (0.0, "hang node1")]
