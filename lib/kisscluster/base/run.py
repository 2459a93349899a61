"""The one door to other programs."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Ended:
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


def run(argv: Sequence[str], timeout: float) -> Ended:
    """Run a program to its end, at most `timeout` seconds; never raises for the program's own failures."""
    import subprocess  # most calls of kc-quorum and kc-fence-peer run nothing

    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ended(124, "", f"{argv[0]}: did not end within {timeout:g} s")
    except OSError as error:
        return Ended(127, "", f"{argv[0]}: {error.strerror}")
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Ended(status, done.stdout, done.stderr)


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
            print(f"+ {line}", file=sys.stderr, flush=True)
        return not self.dry

    def do(self, *argv: str, timeout: float | None = None) -> Ended:
        """Run a program that changes something; a dry run takes it for a success."""
        if not self.say(shlex.join(argv)):
            return Ended(0, "", "")
        return run(argv, timeout or self.timeout)
