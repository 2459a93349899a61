"""The one door to other programs: how it ends, what it said, and that nobody keeps us waiting."""

import os
import signal
import time
from pathlib import Path

import pytest

from kisscluster.base.run import Ended, run


def shell(script: str, timeout: float = 10, given: str = "") -> Ended:
    return run(["sh", "-c", script], timeout, given)


def test_status_and_words() -> None:
    assert shell("echo yes; echo no >&2; exit 3") == Ended(3, "yes\n", "no\n")
    assert shell("kill -TERM $$").status == 128 + 15
    assert shell("printf '\\377'").stdout == "\ufffd"


def test_what_is_given_and_else_nothing() -> None:
    assert shell("cat", given="a\nb\n").stdout == "a\nb\n"
    assert shell("cat").stdout == ""


def test_out_of_time_is_killed(tmp_path: Path) -> None:
    start = time.monotonic()
    ended = shell(f"echo $$ > {tmp_path}/pid; exec sleep 60", timeout=0.3)
    assert ended.status == 124 and "0.3 s" in ended.talk
    assert time.monotonic() - start < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_grandchild_that_lives_on_keeps_nobody_waiting() -> None:
    """A fence command may leave a program behind; its own status is the proof."""
    start = time.monotonic()
    assert shell("sleep 5 & echo off") == Ended(0, "off\n", "")
    assert time.monotonic() - start < 3


def test_found_in_the_systems_path_or_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert shell("exit 0").status == 0
    assert run(["no-such-program"], 1) == Ended(127, "", "no-such-program: No such file or directory")
    assert run(["/etc/passwd"], 1).status == 127


def test_signals_that_python_ignores_are_not_inherited() -> None:
    ignored = int(shell("grep SigIgn /proc/self/status").stdout.split()[1], 16)
    assert not [each for each in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> (each - 1) & 1]
