"""docs/testing.md describes the language as it is."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from tests.scenario.language import CONDITIONS, FAULTS, FOLDER, HEADER, parse

TEXT = (Path(__file__).parents[2] / "docs/testing.md").read_text()
# a word of each kind of condition, as its row has it
ROWS = {"healthy": "`healthy`", "runs": "runs on", "frozen": "is frozen on", "disk": "is STATE on", "mark": "`yielded`",
        "moves": "moves from", "decides": "decides", "sees": "sees", "says": "says", "resets": "resets",
        "off": "is off"}


def table(head: str) -> str:
    """The first column of the table that begins so."""
    rows = TEXT.partition(f"| {head}")[2].partition("\n\n")[0].splitlines()[2:]
    return "\n".join(row.split(" | ")[0] for row in rows)


def test_example_is_a_scenario() -> None:
    (example,) = re.findall(r"(?:^    title: .*\n)(?:(?:    .*)?\n)+", TEXT, re.M)
    shown = parse("shown", dedent(example))
    (path,) = [path for path in FOLDER.iterdir() if f"title: {shown.header['title']}\n" in path.read_text()]
    text = path.read_text()
    assert text.startswith(dedent(example).partition("\ntimeline:\n")[0])
    assert all(line in text for line in shown.timeline.splitlines() if line.strip() != "...")


@pytest.mark.parametrize("verb", FAULTS)
def test_every_verb_is_described(verb: str) -> None:
    described = table("verb |")
    assert re.search(rf"`{verb}\b", described)


@pytest.mark.parametrize("key", HEADER)
def test_every_header_is_described(key: str) -> None:
    assert f"`{key}`" in table("header |")


def test_every_condition_is_described() -> None:
    assert set(ROWS) == set(CONDITIONS)
    rows = TEXT.partition("| condition,")[2].partition("\n\n")[0]
    assert not [kind for kind, words in ROWS.items() if words not in rows]
