"""docs/failures.md is what the scenario files say now."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.scenario.failures import FILE, SECTIONS, document, pause
from tests.scenario.language import Mistake, load_all


def test_file_is_as_made() -> None:
    assert FILE.read_text() == document(load_all()), "make docs"


def test_every_scenario_has_one_row_and_every_section_some() -> None:
    names = sorted(scenario.name for scenario in load_all())
    assert sorted(re.findall(r"\.\./tests/scenarios/(\S+)\.scenario\)", FILE.read_text())) == names
    assert {scenario.header["group"] for scenario in load_all()} == set(SECTIONS)


def test_pauses_are_read_from_the_timeline() -> None:
    for scenario in load_all("simulator"):
        for told in pause(scenario).split("<br>"):
            assert re.fullmatch(r"(web\d )?(none|\d+\.\d s( \(silent at the end\))?)", told), scenario.name


def test_a_group_without_a_place_is_told() -> None:
    scenario = replace(load_all()[0])
    scenario.header = {**scenario.header, "group": "Weather"}
    with pytest.raises(Mistake, match="^a-.*: group: expected one of Power, "):
        document([scenario])
