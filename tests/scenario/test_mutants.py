"""The search is strong enough: what it found with a rule taken out breaks without the rule, and holds with it."""

from __future__ import annotations

import re

import pytest

from tests.scenario.mutants import FOUND, MUTANTS, ROOT, Mutant
from tests.scenario.mutants.find import inside

REPLAY = "tests.scenario.mutants.replay"
DESIGN = ROOT / "docs/design.md"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_found(mutant: Mutant) -> None:
    file = FOUND / f"{mutant.name}.txt"
    bad = inside(mutant, [REPLAY, str(file)], 60)
    assert bad.returncode == 1 and "nothing is broken" not in bad.stdout, bad.stdout + bad.stderr
    good = inside(None, [REPLAY, str(file)], 60)
    assert good.returncode == 0, good.stdout + good.stderr


def test_every_rule_has_its_mutant() -> None:
    """And every finding: design.md's (*1) to the last."""
    rules = {int(number) for number in re.findall(r"^\*\*\(\*(\d+)\)", DESIGN.read_text(), re.MULTILINE)}
    assert rules == {int(mutant.name[:2]) for mutant in MUTANTS if mutant.name < "30"}
    assert {file.stem for file in FOUND.glob("*.txt")} == {mutant.name for mutant in MUTANTS}
