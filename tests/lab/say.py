"""Progress of slow things, on stderr."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class LabError(RuntimeError):
    """The laboratory itself, not what is tested in it, does not work."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def run_logged(command: Sequence[str], log: Path, what: str, *, cwd: Path | None = None,
               env: Mapping[str, str] | None = None, stdin: str = "") -> None:
    """Run a slow command with its output in a log; say every few seconds that it still works."""
    started = time.monotonic()
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with log.open("ab") as out, subprocess.Popen(command, stdin=pipe, stdout=out, stderr=both, cwd=cwd,
                                                 env=env) as process:
        assert process.stdin is not None
        process.stdin.write(stdin.encode())
        process.stdin.close()
        status = _watch(process.wait, log, what, started)
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise LabError(f"{what}: {' '.join(command)}: exit {status}; the end of {log}:\n{tail}")


def _watch(wait: Callable[[float], int], log: Path, what: str, started: float) -> int:
    while True:
        try:
            return wait(5.0)
        except subprocess.TimeoutExpired:
            lines = log.read_text(errors="replace").splitlines() or [""]
            say(f"{what}: {time.monotonic() - started:.0f} s: {lines[-1].strip()[:70]}")
