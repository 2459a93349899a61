"""The search is strong enough: what it found with a rule taken out breaks without the rule, and holds with it."""

from __future__ import annotations

import pytest

from tests.scenario.mutants import FOUND, MUTANTS, Mutant
from tests.scenario.mutants.find import inside

REPLAY = "tests.scenario.mutants.replay"


FINDINGS = [mutant for mutant in MUTANTS if (FOUND / f"{mutant.name}.txt").exists()]


@pytest.mark.parametrize("mutant", FINDINGS, ids=lambda mutant: mutant.name)
def test_found(mutant: Mutant) -> None:
    file = FOUND / f"{mutant.name}.txt"
    bad = inside(mutant, [REPLAY, str(file)], 60)
    assert bad.returncode == 1 and "nothing is broken" not in bad.stdout, bad.stdout + bad.stderr
    good = inside(None, [REPLAY, str(file)], 60)
    assert good.returncode == 0, good.stdout + good.stderr


def test_every_finding_has_its_mutant() -> None:
    assert {file.stem for file in FOUND.glob("*.txt")} == {mutant.name for mutant in FINDINGS} != set()
