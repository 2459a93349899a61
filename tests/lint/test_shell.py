"""Every shell file passes shellcheck."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lint.project import ROOT, files, lint, tool

SHEBANG = re.compile(rb"#!\s*/\S*(?:/|/env )(?:ba|da)?sh\b")


def is_shell(path: Path) -> bool:
    """Does it say so on its first line, or is it a completion?"""
    return path.parent.name == "completions" or bool(SHEBANG.match(path.read_bytes()[:64]))


SHELL = [path for path in files() if is_shell(path)]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck(path: Path) -> None:
    shell = ["--shell=bash"] if path.parent.name == "completions" else []
    assert lint(tool("shellcheck"), *shell, path) == ""
