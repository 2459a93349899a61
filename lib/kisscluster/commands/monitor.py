"""kc-monitor: reset a guest, put an ISO into it or take it out, or ask QEMU anything."""

import argparse
import json
import os
import shlex
import signal
import stat
from typing import Any

from kisscluster.act.qmp import Qmp, request
from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import vm_argument
from kisscluster.commands.guest import ENDS, socket_of

# SeaBIOS answers a reset from outside with one of its own, within 0.1 s; what it boots from is read after that
SECOND_RESET = 3.0  # seconds
# action: (fewest, most words after it, what they are)
ACTIONS = {
    "reset": (0, 0, "nothing"),
    "insert": (1, 1, "an ISO file"),
    "eject": (0, 0, "nothing"),
    "boot": (1, 1, "an ISO file"),
    "qmp": (1, 2, "a QMP command and its arguments as one JSON object"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    vm_argument(parser)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("words", nargs="*", metavar="WORD", help="insert, boot: an ISO file; qmp: COMMAND [JSON]")
    parser.add_argument("--second", action="store_true", help="insert, eject: the second drive (a CD with drivers)")
    parser.add_argument("--force", action="store_true", help="insert, eject: also where the guest locked the drive")


class Monitor:
    """One call's conversation with QEMU; a dry run prints it for socat(1)."""

    def __init__(self, call: Call, path: str) -> None:
        self.call = call
        self.path = path
        self.qmp = None if call.dry else Qmp(path, call.timeout)

    def ask(self, command: str, arguments: dict[str, object], *fds: int) -> Any:
        line = shlex.quote(request("qmp_capabilities", {}) + request(command, arguments))
        self.call.doer.say(f"printf %s {line} | socat -t5 - UNIX-CONNECT:{self.path}")
        return self.qmp.ask(command, arguments, fds) if self.qmp else {}

    def close(self) -> None:
        if self.qmp:
            self.qmp.__exit__()


def opened(path: str) -> int:
    """The file as a person may read it: QEMU's own user need not be able to."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Failure(Exit.USAGE, f"{path}: expected a file with the image of a CD")
    return fd


def insert(monitor: Monitor, drive: str, fd: int, force: bool) -> None:
    """Hand the open file over; QEMU keeps its own copy of it, and the set it came in is given back."""
    number = monitor.ask("add-fd", {}, fd).get("fdset-id", 0)
    try:
        medium = {"id": drive, "filename": f"/dev/fdset/{number}", "format": "raw", "read-only-mode": "read-only"}
        monitor.ask("blockdev-change-medium", {**medium, "force": force})
    finally:
        monitor.ask("remove-fd", {"fdset-id": number})


def boot(monitor: Monitor) -> None:
    """Reset with the CD before all disks, and take that back: the installed guest's own reset boots its disk.

    A signal waits until then.
    """
    order: dict[str, object] = {"path": "/machine/peripheral/cd0", "property": "bootindex"}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        _boot(monitor, order)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _boot(monitor: Monitor, order: dict[str, object]) -> None:
    monitor.ask("qom-set", {**order, "value": 0})
    try:
        monitor.ask("system_reset", {})
        if monitor.qmp:
            monitor.qmp.wait("RESET", 2, SECOND_RESET)
    finally:
        # a wait that was in vain leaves the connection unusable
        monitor.close()
        again = Monitor(monitor.call, monitor.path)
        again.ask("qom-set", {**order, "value": -1})
        monitor.qmp = again.qmp


def asked(words: list[str]) -> tuple[str, dict[str, object]]:
    """A QMP command and its arguments; raises Failure USAGE."""
    try:
        found = json.loads(words[1]) if len(words) > 1 else {}
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{words[1]!r}: {error}: expected one JSON object") from None
    if not isinstance(found, dict):
        raise Failure(Exit.USAGE, f"{words[1]!r}: expected one JSON object")
    return words[0], found


def act(call: Call, monitor: Monitor, fd: int) -> None:
    options = call.options
    drive = "cd1" if options.second else "cd0"
    if options.action == "reset":
        monitor.ask("system_reset", {})
    elif options.action == "insert":
        insert(monitor, drive, fd, options.force)
    elif options.action == "eject":
        monitor.ask("eject", {"id": drive, "force": options.force})
    else:
        insert(monitor, "cd0", fd, force=True)
        boot(monitor)
    call.answer(vm=options.vm, done=options.action)


def ask(call: Call, monitor: Monitor, command: str, given: dict[str, object]) -> None:
    answer = monitor.ask(command, given)
    if not call.options.quiet and not call.dry:
        print(json.dumps(answer, indent=None if call.options.json else 2))


def check(call: Call) -> None:
    options = call.options
    fewest, most, what = ACTIONS[options.action]
    if not fewest <= len(options.words) <= most:
        raise Failure(Exit.USAGE, f"{options.action}: {shlex.join(options.words)!r}: expected {what}")
    if options.second and options.action not in ("insert", "eject"):
        raise Failure(Exit.USAGE, f"{options.action} --second: expected insert or eject: only the first drive boots")


def work(call: Call) -> int:
    check(call)
    options = call.options
    words = options.words
    question = asked(words) if options.action == "qmp" else None
    fd = opened(words[0]) if options.action in ("insert", "boot") else -1
    with socket_of(call, "monitor") as path:
        monitor = Monitor(call, path)
        try:
            if question:
                ask(call, monitor, *question)
            else:
                act(call, monitor, fd)
        finally:
            monitor.close()
    return Exit.OK


def main() -> int:
    return start("kc-monitor", "Reset a guest, insert or eject an ISO, ask QEMU.", work, arguments, timeout=10)
