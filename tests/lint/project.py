"""What all linters need: the tree, its files, and how to call a tool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "lib/kisscluster"
COMMANDS = sorted(path.name for path in (ROOT / "bin").glob("kc-*"))
UNITS = sorted((ROOT / "systemd").iterdir()) if (ROOT / "systemd").is_dir() else []
PAGES = sorted((ROOT / "man").glob("*.[1-8]"))
MODULES = sorted(LIB.rglob("*.py"))


def files() -> list[Path]:
    """Every file that git knows or would add."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def tool(name: str) -> str:
    """The path of a linter; its absence skips the test on a desk and fails it in CI."""
    path = os.pathsep.join([str(ROOT / "build/venv/bin"), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if not found:
        message = f"{name} is not installed: make deps"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def lint(*command: str | Path, **environment: str) -> str:
    """What a linter has to say; its exit status counts as a complaint when it says nothing."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        timeout=300,
        check=False,
    )
    if done.returncode and not done.stdout.strip():
        return f"{command[0]}: exit status {done.returncode}"
    return done.stdout


def text(path: str | Path) -> str:
    """The text of a file of the tree."""
    return (ROOT / path).read_text(encoding="utf-8")


def section(page: Path, title: str) -> str:
    """One section of a manual page's source, without its heading; empty where there is none."""
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", text(page), re.M | re.S)
    return found[1] if found else ""
