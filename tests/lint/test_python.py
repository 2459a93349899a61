"""The Python code: what ruff and mypy say, its size, and who imports whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lint.project import COMMANDS, LIB, MODULES, ROOT, lint, text, tool

MODULE_LINES = 400
FUNCTION_LINES = 40
TOTAL_LINES = 5800
IMPURE = {"os", "subprocess", "time", "pathlib", "datetime", "socket", "random", "shutil", "threading"}


def imported(path: Path) -> set[str]:
    """The full names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a file with their lengths in lines."""
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (
                f"{path.relative_to(ROOT)}:{node.lineno} {node.name}",
                (node.end_lineno or 0) - node.lineno + 1,
            )


def test_ruff() -> None:
    assert lint(tool("ruff"), "check", "--quiet", "--output-format=concise") == ""


def test_mypy() -> None:
    report = lint(tool("mypy"), "--python-executable=/usr/bin/python3", "lib", "tests")
    assert report.startswith("Success"), report


def test_modules_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(text(path).splitlines()) for path in MODULES}
    assert lengths
    assert not {path: length for path, length in lengths.items() if length >= MODULE_LINES}
    assert sum(lengths.values()) < TOTAL_LINES


def test_functions_are_short() -> None:
    long = [
        f"{name}: {length} lines" for path in MODULES for name, length in functions(path) if length > FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIB)))
def test_module_says_in_one_sentence_what_it_is(path: Path) -> None:
    """What follows after an empty line is a comment: why not the obvious."""
    sentence = (ast.get_docstring(ast.parse(text(path))) or "").split("\n\n")[0]
    assert sentence.endswith("."), f"{path}: no sentence at the top"


@pytest.mark.parametrize("path", sorted(LIB.glob("decide/*.py")), ids=lambda path: path.name)
def test_decisions_are_pure(path: Path) -> None:
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] in IMPURE}
    assert not {name for name in names if name.startswith(("kisscluster.see", "kisscluster.act"))}


@pytest.mark.parametrize("mine,other", [("see", "act"), ("act", "see"), ("act", "decide")])
def test_parts_do_not_know_each_other(mine: str, other: str) -> None:
    for path in LIB.glob(f"{mine}/*.py"):
        assert not {name for name in imported(path) if name.startswith(f"kisscluster.{other}")}, path


def test_base_stands_alone() -> None:
    for path in LIB.glob("base/*.py"):
        own = {name for name in imported(path) if name.startswith("kisscluster.")}
        assert not {name for name in own if not name.startswith("kisscluster.base")} - {"kisscluster.VERSION"}, path


@pytest.mark.parametrize("command", COMMANDS)
def test_script_only_starts_its_module(command: str) -> None:
    lines = text(f"bin/{command}").splitlines()
    assert lines[0] == "#!/usr/bin/python3 -I"
    assert len(lines) <= 14
    (module,) = re.findall(r"^from kisscluster\.commands\.(\w+) import", "\n".join(lines), re.M)
    assert (LIB / "commands" / f"{module}.py").exists()
