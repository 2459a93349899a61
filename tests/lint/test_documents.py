"""What a reader is told to type exists: commands, their options, playbooks, variables, definitions."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import Any

import pytest

from tests.lint.project import COMMANDS, PAGES, ROOT, lint, section, text
from tests.unit.test_ansible_planning import planning

yaml: Any = pytest.importorskip("yaml")  # what Ansible reads definitions with
DOCUMENTS = ["README.md", "docs/tutorial.md", "ansible/README.md", *(f"man/{page.name}" for page in PAGES)]
PLAYBOOKS = {f"kisscluster.pair.{path.stem}" for path in (ROOT / "ansible/playbooks").glob("*.yml")}
OF_ANSIBLE = {"-i", "-e", "--check", "--diff", "--limit"}
VARIABLE = r"\b(?:kisscluster|vms|upgrade)_[a-z_]+\b"


@cache
def variables() -> set[str]:
    specified = (path.read_text() for path in (ROOT / "ansible/roles").glob("*/meta/argument_specs.yml"))
    return {name for spec in specified for name in re.findall(rf"^ +({VARIABLE}):$", spec, re.M)}


@cache
def options(command: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])(-[A-Za-z]|--[a-z][a-z-]*)", lint(ROOT / "bin" / command, "--help")))


def typed(document: str) -> list[list[str]]:
    """The words of each of our commands, and of each ansible-playbook, that the document shows to be typed."""
    if document.startswith("man/"):
        shown = re.sub(r"^\.Dl ", "", section(ROOT / document, "EXAMPLES"), flags=re.M).replace(r"\(aq", "'")
        lines = shown.replace(r"\(dq", '"').splitlines()
    else:
        source = text(document)
        lines = re.findall(r"^ {4,}(.*)", source, re.M) + re.findall(r"`([^`\n]+)`", source)
    parts = [part for line in lines if not line.startswith((".", "#")) for part in re.split(r"&&|\|\||[|;&]", line)]
    return [shlex.split(part, comments=True) for part in parts if re.match(r" *(kc-[a-z]|ansible-playbook )", part)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_is_typed_exists(document: str) -> None:
    for program, *words in typed(document):
        given = {word.split("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)}
        extra = {word.split("=")[0] for before, word in zip(words, words[1:], strict=False) if before == "-e"}
        if program != "ansible-playbook":
            assert program in COMMANDS and given <= options(program), (program, words)
            continue
        assert given <= OF_ANSIBLE and PLAYBOOKS & set(words) and extra <= variables(), words


@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md", "ansible/README.md"])
def test_variables_exist(document: str) -> None:
    assert set(re.findall(rf"`(?:-e )?({VARIABLE})", text(document))) <= variables()


def test_the_tutorial_is_looked_at() -> None:
    shown = [" ".join(words) for words in typed("docs/tutorial.md")]
    assert len(shown) > 20 and "kc-configure --check" in shown


def test_definitions_of_the_tutorial_can_be_planned() -> None:
    """Its guests are taken together, with its defaults.yml."""
    tutorial = text("docs/tutorial.md")
    (defaults,) = re.findall(r"printf '%s\\n' (.*) > defaults.yml", tutorial)
    common = {"pool": "vg0", **yaml.safe_load("\n".join(shlex.split(defaults)))}
    files = [yaml.safe_load(block) for block in re.findall(r"^(?: {4}\w+: .*\n)+", tutorial, re.M)]
    assert len(files) == 2
    definitions = {f"vm{number}": {**common, **one} for number, one in enumerate(files)}
    assert len(planning.planned(definitions, {}, {}, 7790, 10).vms) == 2
