"""kc-console: a VM's serial console, until Ctrl-]."""

import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from kisscluster.act.sockets import accepted, connect
from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import vm_argument
from kisscluster.commands.guest import ENDS, socket_of

LEAVE = b"\x1d"  # Ctrl-], as in telnet(1) and virsh(1)


class Ended(Exception):
    """A signal asked for the end."""


def _end(number: int, _: FrameType | None) -> None:
    raise Ended(number)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key to the guest; the terminal is as it was however this ends, but by SIGKILL."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)  # a second signal must not end this half-way
        with suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(fd, termios.TCSAFLUSH, before)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""  # the terminal has gone


def _show(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def talk(guest: socket.socket) -> Exit:
    """Carry bytes both ways until the key to leave, the end of the input, or the end of QEMU.

    A guest that reads nothing must not keep the key to leave from being read.
    """
    pending = b""
    while True:
        readable, writable, _ = select.select([0, guest], [guest] if pending else [], [])
        if guest in readable:
            data = guest.recv(65536)
            if not data:
                return Exit.UNAVAILABLE
            _show(data)
        if writable:
            pending = pending[guest.send(pending) :]
        if 0 in readable:
            typed, leave, _ = _read(0).partition(LEAVE)
            pending += typed
            if leave or not typed:
                return _last(guest, pending)


def _last(guest: socket.socket, pending: bytes) -> Exit:
    """What was typed before the end goes, too, as far as the guest takes it at once."""
    with suppress(BlockingIOError):
        guest.send(pending)
    return Exit.OK


def attach(call: Call, path: str) -> tuple[Exit, str]:
    """How it ended, and a word for the person."""
    with connect(path, call.timeout) as guest:
        accepted(guest, path, min(2.0, call.timeout))
        call.talk(f"attached to {call.options.vm}; leave with Ctrl-]")
        guest.setblocking(False)
        try:
            with raw(0):
                status = talk(guest)
        except Ended as ended:
            return Exit.NO, signal.Signals(ended.args[0]).name
        except OSError as error:
            return Exit.UNAVAILABLE, error.strerror or str(error)
        return status, "detached" if status == Exit.OK else "QEMU ended"


def work(call: Call) -> int:
    with socket_of(call, "serial") as path:
        if call.dry:
            call.doer.say(f"socat -,rawer,escape=0x1d UNIX-CONNECT:{path}")
            return Exit.OK
        for number in ENDS:
            signal.signal(number, _end)
        try:
            status, why = attach(call, path)
        except Ended as ended:
            raise Failure(Exit.NO, signal.Signals(ended.args[0]).name) from None
    if sys.stderr.isatty():
        call.talk("")
    call.talk(f"{call.options.vm}: {why}")
    return status


def main() -> int:
    return start("kc-console", "Attach to a VM's serial console; leave with Ctrl-].", work, vm_argument, timeout=10)
