"""Tab completion knows every command, its options and the VMs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.lint.project import COMMANDS, ROOT, lint, text

each_command = pytest.mark.parametrize("command", COMMANDS)


def complete(tmp_path: Path, *words: str) -> list[str]:
    """What tab offers for the last word."""
    (tmp_path / "vm").mkdir(exist_ok=True)
    for name in ("web1", "web2", "db"):
        (tmp_path / "vm" / f"{name}.conf").touch()
    line = f"source {ROOT}/completions/kc; KC_VM_DIR={tmp_path}/vm; COMP_WORDS=({' '.join(map(repr, words))}); "
    line += f"COMP_CWORD={len(words) - 1}; _kc {words[0]} {words[-1]!r} {words[-2]!r}; "
    line += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=10, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@each_command
def test_command_is_completed(command: str) -> None:
    assert re.search(rf"^complete .*\b{command}\b", text("completions/kc").replace("\\\n", " "), re.M)


@each_command
def test_options_are_those_of_help(command: str, tmp_path: Path) -> None:
    usage = lint(ROOT / "bin" / command, "--help")
    assert set(complete(tmp_path, command, "--")) == set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", usage))


@each_command
def test_vms_are_offered_where_help_wants_one(command: str, tmp_path: Path) -> None:
    wants = bool(re.search(r"\bVM\b", lint(ROOT / "bin" / command, "--help").split("\n\n")[0]))
    assert ("web1" in complete(tmp_path, command, "w")) == wants


def test_switches_are_offered(tmp_path: Path) -> None:
    assert complete(tmp_path, "kc-standby", "o") == ["on", "off"]
    assert complete(tmp_path, "kc-maintenance", "") == ["on", "off", "status"]


def test_only_as_many_vms_as_the_command_takes(tmp_path: Path) -> None:
    assert complete(tmp_path, "kc-promote", "web1", "w") == []


def test_timeout_and_files_are_not_taken_for_vms(tmp_path: Path) -> None:
    assert complete(tmp_path, "kc-promote", "--timeout", "") == []
    assert "web1" in complete(tmp_path, "kc-promote", "--timeout", "5", "w")
