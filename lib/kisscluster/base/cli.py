"""The one command line: the same options everywhere, one way out, every failure with its exit status.

What few calls need is imported where it is needed: a failover waits for four of these commands in a row.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from kisscluster import VERSION
from kisscluster.base.exits import Exit, Failure
from kisscluster.base.run import Doer
from kisscluster.base.state import State

Work = Callable[["Call"], int]


class Call:
    """One call of a command: its options, its answer, its talk, and the hand that does things."""

    def __init__(self, program: str, options: argparse.Namespace) -> None:
        self.program = program
        self.options = options
        self.run = State(options.run_dir)
        self.state = State(os.environ.get("KC_STATE_DIR", "/var/lib/kisscluster"))
        self.config_file: str = options.config
        self.dry: bool = options.dry_run
        self.timeout: float = options.timeout
        self.doer = Doer(self.dry, options.verbose, self.timeout)

    def answer(self, **facts: object) -> None:
        """The answer on stdout: one line `key=value ...`, or one JSON object. A dry run prints commands only."""
        if self.options.quiet or self.dry:
            return
        if self.options.json:
            import json

            print(json.dumps(facts))
        else:
            print(" ".join(f"{key}={shlex.quote(_plain(value))}" for key, value in facts.items()))

    def talk(self, line: str) -> None:
        if not self.options.quiet:
            _tell(self.program, line)

    def write(self, state: State, name: str, text: str, durable: bool = False) -> bool:
        """Make a fact so, or print how; True when it was not so before."""
        if state.read(name) == text:
            return False
        path = shlex.quote(state.path(name))
        if self.doer.say(f"printf '%s\\n' {shlex.quote(text)} > {path}"):
            return state.write(name, text, durable)
        return True

    def remove(self, state: State, name: str, durable: bool = False) -> bool:
        """Make a fact absent, or print how; True when it was there."""
        if state.has(name) and self.doer.say(shlex.join(["rm", "-f", state.path(name)])):
            return state.remove(name, durable)
        return False

    def locked(self, name: str, patience: float | None = None) -> AbstractContextManager[None]:
        """Be the one actor; a dry run looks on without the lock."""
        return nullcontext() if self.dry else self.run.lock(name, self.timeout if patience is None else patience)

    def wake(self, name: str) -> None:
        """Let the units that wait for a flag run."""
        if not self.run.has(f"wake/{name}") and self.doer.say(shlex.join(["touch", self.run.path(f"wake/{name}")])):
            self.run.flag(f"wake/{name}")


def _tell(program: str, line: str) -> None:
    """Talk that nobody can hear (the journal restarts, a terminal has gone) stops nothing."""
    with suppress(OSError):
        print(f"{program}: {line}", file=sys.stderr, flush=True)


def _plain(value: object) -> str:
    return "yes" if value is True else "no" if value is False else str(value)


def parser(program: str, purpose: str, timeout: float) -> argparse.ArgumentParser:
    """The options that all commands share (DESIGN 4)."""
    out = argparse.ArgumentParser(
        program,
        description=purpose,
        epilog=f"See also: man {program}",
        allow_abbrev=False,
        # to ask the terminal, argparse imports shutil, and that every compressor there is
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=78),
    )
    out.add_argument("-V", "--version", action="version", version=f"{program} (KISScluster) {VERSION}")
    out.add_argument("-n", "--dry-run", action="store_true", help="print the commands instead of running them")
    out.add_argument("-q", "--quiet", action="store_true", help="print no answer and no talk")
    out.add_argument("-v", "--verbose", action="store_true", help="print the commands while running them")
    out.add_argument("--json", action="store_true", help="answer with one JSON object")
    patience = f"give up after so long (default {timeout:g})"
    out.add_argument("--timeout", type=_seconds, default=timeout, metavar="SECONDS", help=patience)
    conf = "/etc/kisscluster/kisscluster.conf"
    out.add_argument("--config", default=conf, metavar="FILE", help=f"default {conf}")
    out.add_argument("--run-dir", default="/run/kisscluster", metavar="DIR", help="default /run/kisscluster")
    return out


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds above 0")
    return value


def open_streams() -> None:
    """The kernel starts DRBD's handlers without any open file: Python then has no streams."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def start(
    program: str,
    purpose: str,
    work: Work,
    arguments: Callable[[argparse.ArgumentParser], object] | None = None,
    timeout: float = 30,
) -> int:
    """Parse, work, and turn everything that can happen into an exit status."""
    open_streams()
    os.umask(0o022)  # kc-heartbeat reads what root writes, whatever root's umask
    command_line = parser(program, purpose, timeout)
    if arguments:
        arguments(command_line)
    options = command_line.parse_args()
    status = _work(program, options, work)
    try:
        sys.stdout.flush()
    except OSError:
        # an answer that nobody got permits nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return int(status or Exit.UNAVAILABLE)
    return int(status)


def _work(program: str, options: argparse.Namespace, work: Work) -> int:
    try:
        return work(Call(program, options))
    except Failure as failure:
        for line in str(failure).split("\n"):
            _tell(program, line)
        return failure.status
    except PermissionError as error:
        _tell(program, f"{error.filename or ''}: {error.strerror}: are you root?")
        return Exit.PERMISSION
    except OSError as error:
        _tell(program, f"{error.filename or ''}: {error.strerror}")
        return Exit.UNAVAILABLE
    except Exception as error:
        if options.verbose:
            import traceback

            traceback.print_exc()
        _tell(program, f"bug: {type(error).__name__}: {error} (-v shows where)")
        return Exit.BUG
