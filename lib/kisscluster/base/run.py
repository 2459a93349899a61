"""The one door to other programs."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

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
    """Run a program to its end, at most `timeout` seconds; never raises for the program's own failures.

    Not by subprocess: its import takes as long as some of the programs, and a failover waits for it thrice. What
    is said goes to memory, not through a pipe: that ends only when the last grandchild that has it open does.
    """
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    try:
        os.pwrite(files[0], given.encode(), 0)
        status = _status(argv, files, timeout)
        out, err = (_said(fd) for fd in files[1:])
    except OSError as error:
        return Ended(127, "", f"{argv[0]}: {error.strerror}")
    finally:
        for fd in files:
            os.close(fd)
    return Ended(124, "", f"{argv[0]}: did not end within {timeout:g} s") if status is None else Ended(status, out, err)


def _status(argv: Sequence[str], files: list[int], timeout: float) -> int | None:
    """None when it did not end in time."""
    import select
    import signal

    pid = os.posix_spawn(
        _found(argv[0]),
        list(argv),
        environment(),
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
    )
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    in_time = poll.poll(timeout * 1000)
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    os.close(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if not in_time else code if code >= 0 else 128 - code


def _found(program: str) -> str:
    """Where PATH has it; posix_spawnp(3) would look in our own PATH, which may lack the system's."""
    places = [f"{folder}/{program}" for folder in environment()["PATH"].split(":")] if "/" not in program else []
    return next((place for place in places if os.access(place, os.X_OK)), program)


def _said(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")


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

    def do(self, *argv: str, timeout: float | None = None, given: str = "") -> Ended:
        """Run a program that changes something, on its stdin what is given; a dry run takes it for a success."""
        line = shlex.join(argv)
        if not self.say(f"printf %s {shlex.quote(given)} | {line}" if given else line):
            return Ended(0, "", "")
        return run(argv, timeout or self.timeout, given)
