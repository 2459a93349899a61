"""The one door to other programs."""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, TextIO

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Ended(NamedTuple):
    """How a program ended: its exit status (128+n: killed by signal n, 124: out of time, 127: not found)."""

    status: int
    stdout: str
    stderr: str

    @property
    def talk(self) -> str:
        return " ".join(self.stderr.split()) or " ".join(self.stdout.split())


def environment() -> dict[str, str]:
    """A short environment: PATH extended by the system's, plain C locale, nothing else from the caller but KC_*."""
    kept = {key: value for key, value in os.environ.items() if key.startswith("KC_")}
    path = os.environ.get("PATH", "")
    return {**kept, "PATH": f"{path}:{SYSTEM_PATH}" if path else SYSTEM_PATH, "LC_ALL": "C.UTF-8"}


def run(argv: Sequence[str], timeout: float, given: str = "") -> Ended:
    """Run a program to its end, at most `timeout` seconds; never raises for the program's own failures."""
    import subprocess  # most calls of kc-quorum and kc-fence-peer run nothing

    with _memory("stdin") as stdin, _memory("stdout") as stdout, _memory("stderr") as stderr:
        stdin.write(given)
        stdin.seek(0)
        try:
            done = subprocess.run(
                argv, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout, env=environment(), check=False
            )
        except subprocess.TimeoutExpired:
            return Ended(124, "", f"{argv[0]}: did not end within {timeout:g} s")
        except OSError as error:
            return Ended(127, "", f"{argv[0]}: {error.strerror}")
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Ended(status, _said(stdout), _said(stderr))


def show(argv: Sequence[str], timeout: float, quiet: bool = False) -> int:
    """Run a program whose talk a person waits for: all of it goes to stderr. Its exit status, as Ended has it."""
    import subprocess

    out = subprocess.DEVNULL if quiet else 2
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=timeout, env=environment(), check=False
        )
    except subprocess.TimeoutExpired:
        return 124
    except OSError:
        return 127
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _memory(name: str) -> TextIO:
    """A file in memory instead of a pipe, which ends only when the last grandchild that has it open does."""
    return open(os.memfd_create(name), "w+", encoding="utf-8", errors="replace")


def _said(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


class Doer:
    """Does what changes something: prints it instead in a dry run, and beside it when verbose."""

    def __init__(self, dry: bool, verbose: bool, timeout: float) -> None:
        self.dry = dry
        self.verbose = verbose
        self.timeout = timeout

    def say(self, line: str) -> bool:
        """Show a shell line; True when it must really be done."""
        if self.dry:
            print(line)
        elif self.verbose:
            with suppress(OSError):
                print(f"+ {line}", file=sys.stderr, flush=True)
        return not self.dry

    def look(self, *argv: str) -> Ended:
        """Run a program that changes nothing, in a dry run, too."""
        return run(argv, self.timeout)

    def do(self, *argv: str, timeout: float | None = None, given: str = "") -> Ended:
        """Run a program that changes something, on its stdin what is given; a dry run takes it for a success."""
        line = shlex.join(argv)
        if not self.say(f"printf %s {shlex.quote(given)} | {line}" if given else line):
            return Ended(0, "", "")
        return run(argv, timeout or self.timeout, given)
