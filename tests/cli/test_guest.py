"""kc-monitor and kc-console: a real QEMU, real terminals, and sockets that say nothing."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kisscluster.act import qemu
from kisscluster.base.config import Vm
from tests.cli import iso
from tests.cli.node import FakeNode
from tests.lab.pair import wait

VM = Vm("web1", "node1", 32, 1, (), (), 50, 120.0, "virtio", "tcg", "", "utc", "")
PATIENCE = 20.0  # seconds


def folder(node: FakeNode) -> Path:
    path = node.run / "vm/web1"
    path.mkdir(parents=True, exist_ok=True)
    return path


def as_user(node: FakeNode, vm: Vm, disk: Path) -> list[str]:
    """QEMU's command line, for whoever runs the tests and on whatever file system."""
    command = qemu.command(vm, str(node.run), [str(disk)])
    return [word.replace("cache.direct=on", "cache.direct=off").replace("aio=native", "aio=threads")
            for word in command[command.index("--") + 1 :]]


@pytest.fixture
def guest(node: FakeNode) -> Iterator[FakeNode]:
    """node1 with web1 in a QEMU; its disk says D."""
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("no QEMU")
    disk = node.base / "disk"
    disk.write_bytes(iso.sector("D").ljust(1 << 20, b"\0"))
    folder(node)
    node.facts({"local/running/web1": ""})
    process = subprocess.Popen(as_user(node, VM, disk), stdin=subprocess.DEVNULL)
    try:
        wait(lambda: node.call("kc-monitor", "web1", "qmp", "query-status").returncode == 0, PATIENCE, "QEMU answers")
        yield node
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def deaf(node: FakeNode) -> Iterator[FakeNode]:
    """Sockets that let connect, and accept nobody."""
    listeners = []
    for name in ("monitor", "serial"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder(node) / name))
        listener.listen(1)
        listeners.append(listener)
    node.facts({"local/running/web1": ""})
    yield node
    for listener in listeners:
        listener.close()


def said(node: FakeNode) -> str:
    """What the guest's serial port says now."""
    with socket.socket(socket.AF_UNIX) as serial:
        serial.connect(str(folder(node) / "serial"))
        serial.settimeout(15)
        time.sleep(0.3)
        return serial.recv(65536).decode("ascii", "replace")[-1:]


def ask(node: FakeNode, *words: str) -> object:
    done = node.call("kc-monitor", "web1", "qmp", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def inserted(node: FakeNode) -> list[str]:
    blocks = ask(node, "query-block")
    assert isinstance(blocks, list)
    return [block["qdev"] for block in blocks if block.get("removable") and "inserted" in block]


def test_cd_goes_in_and_out_as_a_file_of_roots(guest: FakeNode) -> None:
    cd = guest.base / "a.iso"
    cd.write_bytes(iso.image("C"))
    cd.chmod(0o600)
    assert inserted(guest) == []
    done = guest.call("kc-monitor", "web1", "insert", str(cd))
    assert (done.returncode, done.stdout) == (0, "vm=web1 done=insert\n"), done.stderr
    assert guest.call("kc-monitor", "web1", "insert", str(cd), "--second").returncode == 0
    assert [name.rsplit("/", 1)[-1] for name in inserted(guest)] == ["cd0", "cd1"]
    assert guest.call("kc-monitor", "web1", "insert", str(cd)).returncode == 0, "once more is the same"
    assert guest.call("kc-monitor", "web1", "eject").returncode == 0
    assert guest.call("kc-monitor", "web1", "eject", "--second").returncode == 0
    assert (inserted(guest), ask(guest, "query-fdsets")) == ([], [])


def test_boots_from_a_cd_once(guest: FakeNode) -> None:
    wait(lambda: said(guest) == "D", PATIENCE, "the disk boots")
    cd = guest.base / "a.iso"
    cd.write_bytes(iso.image("C"))
    done = guest.call("kc-monitor", "web1", "boot", str(cd))
    assert (done.returncode, done.stdout) == (0, "vm=web1 done=boot\n"), done.stderr
    wait(lambda: said(guest) == "C", PATIENCE, "the CD boots")
    assert guest.call("kc-monitor", "web1", "reset").returncode == 0
    wait(lambda: said(guest) == "D", PATIENCE, "the disk boots")


def test_killed_while_it_boots_the_cd_is_not_first_for_ever(node: FakeNode) -> None:
    """QEMU never tells of the reset; the signal comes while that is awaited."""
    cd = node.base / "a.iso"
    cd.write_bytes(iso.image("C"))
    node.facts({"local/running/web1": ""})
    requests: list[dict[str, object]] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder(node) / "monitor"))
        listener.listen(4)
        listener.settimeout(15)
        process = subprocess.Popen(node.argv("kc-monitor", "web1", "boot", str(cd)), env=node.environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while _orders(requests)[-1:] != [-1]:
                _answer(listener, requests, process)
            assert process.wait(15) == -signal.SIGTERM
        finally:
            process.kill()
            process.wait()
    assert _orders(requests) == [0, -1]


def _orders(requests: list[dict[str, object]]) -> list[object]:
    """The boot indexes that were asked for."""
    return [request["arguments"]["value"] for request in requests  # type: ignore[index]
            if request["execute"] == "qom-set"]


def _answer(listener: socket.socket, requests: list[dict[str, object]], process: subprocess.Popen[bytes]) -> None:
    """One conversation, as QEMU would have it; the command is told to end when it asks for the reset."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rw") as lines:
        print('{"QMP": {}}', file=lines, flush=True)
        for line in lines:
            requests.append(json.loads(line))
            print('{"return": {}}', file=lines, flush=True)
            if requests[-1]["execute"] == "system_reset":
                process.terminate()
            if _orders(requests)[-1:] == [-1]:
                return


def test_qemus_refusal_is_told(guest: FakeNode) -> None:
    done = guest.call("kc-monitor", "web1", "qmp", "eject", '{"id": "nothing"}')
    assert done.returncode == 1
    assert "nothing" in done.stderr


def test_dry_run_sends_nothing(node: FakeNode) -> None:
    done = node.call("kc-monitor", "-n", "web1", "reset")
    assert done.returncode == 0
    assert "system_reset" in done.stdout and done.stdout.startswith("printf ")
    done = node.call("kc-console", "-n", "web1")
    assert (done.returncode, done.stdout.split()[0]) == (0, "socat")


@pytest.mark.parametrize("words", [["insert"], ["reset", "now"], ["qmp"], ["qmp", "stop", "[]"], ["qmp", "stop", "{"],
                                   ["reset", "--second"], ["boot", "/dev/null"]])
def test_wrong_words_are_refused(node: FakeNode, words: list[str]) -> None:
    assert node.call("kc-monitor", "web1", *words).returncode == 2


def test_missing_iso_is_named(node: FakeNode) -> None:
    done = node.call("kc-monitor", "web1", "insert", "/nowhere.iso")
    assert done.returncode == 69
    assert "/nowhere.iso" in done.stderr


@pytest.mark.parametrize("words", [["kc-monitor", "web1", "reset"], ["kc-console", "web1"]])
def test_names_the_node_where_it_runs(node: FakeNode, words: list[str]) -> None:
    done = node.call(*words)
    assert (done.returncode, "does not run" in done.stderr) == (1, True)
    node.facts({"peer/local/running/web1": ""})
    done = node.call(*words)
    assert (done.returncode, "runs on node2" in done.stderr) == (1, True)


@pytest.mark.parametrize(("command", "words", "name"),
                         [("kc-monitor", ["reset"], "monitor"), ("kc-console", [], "serial")])
def test_says_who_is_attached(guest: FakeNode, command: str, words: list[str], name: str) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(folder(guest) / name))
        time.sleep(0.3)
        done = guest.call(command, "--timeout", "1", "web1", *words)
    assert done.returncode == 75
    assert f"process {os.getpid()}" in done.stderr


@pytest.mark.parametrize("words", [["kc-monitor", "web1", "reset"], ["kc-console", "web1"]])
def test_a_qemu_that_stands_still_is_no_busy_one(deaf: FakeNode, words: list[str]) -> None:
    done = deaf.call(words[0], "--timeout", "0.5", *words[1:])
    assert done.returncode == 69
    assert "attached" not in done.stderr


class Terminal:
    """kc-console on a terminal of its own."""

    def __init__(self, node: FakeNode) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.heard = b""
        node.beat()
        self.process = subprocess.Popen(node.argv("kc-console", "web1"), env=node.environment(), stdin=self.slave,
                                        stdout=self.slave, stderr=self.slave, start_new_session=True)
        os.set_blocking(self.master, False)

    def shows(self, text: bytes) -> None:
        wait(lambda: text in self._more(), PATIENCE, f"{text!r} is shown")

    def _more(self) -> bytes:
        with suppress(BlockingIOError):
            self.heard += os.read(self.master, 65536)
        return self.heard

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def ends(self) -> int:
        wait(lambda: (self._more(), self.process.poll() is not None)[1], PATIENCE, "kc-console ends")
        assert termios.tcgetattr(self.slave) == self.before
        os.close(self.master)
        os.close(self.slave)
        return self.process.returncode


class Serial:
    """QEMU's end of a serial port."""

    def __init__(self, node: FakeNode) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder(node) / "serial"))
        self.listener.listen(1)
        self.listener.settimeout(10)

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        return connection


@pytest.fixture
def serial(node: FakeNode) -> Iterator[Serial]:
    out = Serial(node)
    yield out
    out.listener.close()


def test_console_carries_every_key_but_one(node: FakeNode, serial: Serial) -> None:
    terminal = Terminal(node)
    with serial.accept() as port:
        wait(terminal.is_raw, PATIENCE, "the terminal is raw")
        port.sendall(b"login: ")
        terminal.shows(b"login: ")
        os.write(terminal.master, b"\x03\x1a\r")
        got = b""
        while len(got) < 3:
            got += port.recv(16)
        assert got == b"\x03\x1a\r"
        os.write(terminal.master, b"last\x1dnot this")
        assert terminal.ends() == 0
        assert port.recv(64) + port.recv(64) == b"last"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(node: FakeNode, serial: Serial, number: signal.Signals) -> None:
    terminal = Terminal(node)
    with serial.accept():
        wait(terminal.is_raw, PATIENCE, "the terminal is raw")
        terminal.process.send_signal(number)
        assert terminal.ends() == 1


def test_the_end_of_qemu_leaves_the_terminal_as_it_was(node: FakeNode, serial: Serial) -> None:
    terminal = Terminal(node)
    with serial.accept():
        wait(terminal.is_raw, PATIENCE, "the terminal is raw")
    assert terminal.ends() == 69


def test_a_guest_that_reads_nothing_can_be_left(node: FakeNode, serial: Serial) -> None:
    terminal = Terminal(node)
    with serial.accept():
        wait(terminal.is_raw, PATIENCE, "the terminal is raw")
        written, end = 0, time.monotonic() + 20
        while written < 1 << 20 and time.monotonic() < end:
            try:
                written += os.write(terminal.master, b"x" * 4096)
            except BlockingIOError:
                time.sleep(0.01)
        assert written >= 1 << 20
        wait(lambda: _try(terminal.master, b"\x1d"), PATIENCE, "the key to leave is typed")
        assert terminal.ends() == 0


def _try(fd: int, data: bytes) -> bool:
    try:
        return os.write(fd, data) > 0
    except BlockingIOError:
        return False


def test_two_drives_unless_ide_disks_need_their_ports() -> None:
    def drives(disk: str, count: int) -> list[str]:
        command = qemu.command(VM._replace(disk=disk), "/run", ["/dev/null"] * count)
        return [word for word in command if word.startswith("ide-cd")]

    both = ["ide-cd,bus=ide.5,id=cd0", "ide-cd,bus=ide.4,id=cd1"]
    assert drives("scsi", 6) == drives("ide", 4) == both
    assert (drives("ide", 5), drives("ide", 6)) == (both[:1], [])


def test_a_panic_counts_as_a_crash(node: FakeNode) -> None:
    """By default QEMU ends with 0 when its guest panics, and systemd would not start it again."""
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("no QEMU")
    folder(node)
    disk = node.base / "disk"
    code = b"\xba\x05\x05\xb0\x01\xee\xf4\xeb\xfd"                 # mov dx,505; mov al,1; out dx,al; hlt; again
    disk.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    command = as_user(node, VM._replace(watchdog="yes"), disk)
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60).returncode == 1
