"""One virtual node: a QEMU process, its monitor, and the agent inside that runs commands and reports dots."""

from __future__ import annotations

import errno
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

from tests.lab import build, isolate
from tests.lab.pair import NETWORKS, Network, wait
from tests.lab.say import LabError
from tests.lab.virtual_image import PROBED, Base

MEMORY = 768
CPUS = "2"  # the survivor of a power loss has the host to itself
TCG_CPU = "Nehalem,+rdrand"  # without AVX, which tcg emulates slowly and the C library prefers
RESET_ONCE = 5.0  # seconds; SeaBIOS resets once more after a reset of the kernel
NETWORK_BYTE: dict[Network, int] = {"production": 1, "storage": 2}
# without what hardens a kernel: under tcg each address that differs from the last time is code translated anew
CMDLINE = (
    "console=ttyS0 quiet loglevel=4 net.ifnames=0 systemd.show_status=0 systemd.hostname={name} "
    "systemd.machine_id={machine:032x} "
    "tsc=reliable no_timer_check nokaslr norandmaps mitigations=off init_on_alloc=0 hardened_usercopy=off "
    "randomize_kstack_offset=off audit=0 apparmor=0 cryptomgr.notests panic=5"
)


def accelerator(base: Base) -> str:
    """KVM if the nodes' kernel truly starts on it: the device may be there and good for a boot sector only."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    found = build.cached("virtual-accel", build.digest(boot, base.path.name), lambda work: _probe(base, work))
    return (found / "accel").read_text()


def _probe(base: Base, work: Path) -> None:
    command = [*machine("kvm"), "-kernel", str(base.kernel), "-initrd", str(base.initrd), "-no-reboot",
               "-append", "console=ttyS0 quiet panic=-1 rdinit=/probe", "-serial", "stdio"]
    try:
        said = subprocess.run(command, timeout=6, capture_output=True, stdin=subprocess.DEVNULL).stdout
    except subprocess.TimeoutExpired:
        said = b""
    (work / "accel").write_text("kvm" if PROBED.encode() in said else "tcg")


def machine(accel: str) -> list[str]:
    """What both nodes have in common, and what a snapshot depends on."""
    fast = ["-accel", "kvm", "-cpu", "host"] if accel == "kvm" else ["-accel", "tcg,thread=multi", "-cpu", TCG_CPU]
    return ["qemu-system-x86_64", "-M", "pc", *fast, "-smp", CPUS, "-m", str(MEMORY), "-display", "none", "-vga",
            "none", "-nodefaults", "-no-user-config"]


class Channel:
    """A line-oriented unix stream socket of QEMU, read by a thread of its own."""

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.on_line = on_line
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            with self.socket.makefile("r", errors="replace") as lines:
                for line in lines:
                    self.on_line(line)
        except (OSError, ValueError):
            return

    def send(self, message: dict[str, Any]) -> None:
        """One JSON object on one line."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


class Qemu:
    """A running node. It dies with this process."""

    def __init__(self, name: str, directory: Path, command: Sequence[str], on_dots: Callable[[str, int], None]) -> None:
        self.name, self.on_dots = name, on_dots
        self.pending: dict[str, Future[dict[str, Any]]] = {}
        self.numbers = itertools.count()
        self.resets, self.last_reset = 0, -RESET_ONCE  # by itself: a reboot, a panic, sysrq
        for path in directory.glob("*.sock"):
            path.unlink()
        self.log = directory / "qemu.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=isolate.die_with_parent)
        sockets = {kind: directory / f"{kind}.sock" for kind in ("qmp", "run", "dots")}
        wait(lambda: self._alive() and all(map(Path.exists, sockets.values())), 20, f"QEMU of {name}")
        self.qmp_channel = Channel(sockets["qmp"], self._qmp_line)
        self.run_channel = Channel(sockets["run"], self._run_line)
        self.dots_channel = Channel(sockets["dots"], self._dots_line)
        self.qmp("qmp_capabilities")

    def _alive(self) -> bool:
        if self.process.poll() is not None:
            raise LabError(f"QEMU of {self.name} ended: {self.log.read_text()[-1000:]}")
        return True

    def _qmp_line(self, line: str) -> None:
        message = json.loads(line)
        if "id" in message:
            self._fulfil(message)
        elif message.get("event") == "RESET":
            self._note_reset(message["data"]["guest"])

    def _note_reset(self, by_guest: bool) -> None:
        now = time.monotonic()
        if by_guest and now > self.last_reset + RESET_ONCE:
            self.resets, self.last_reset = self.resets + 1, now
        for name in [name for name in self.pending if name.startswith("run")]:  # the agent died with the node
            self._fulfil({"id": name, "code": 255, "out": "", "err": "the node was reset"})

    def _run_line(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return
        self._fulfil(message)

    def _fulfil(self, message: dict[str, Any]) -> None:
        future = self.pending.pop(message["id"], None)
        if future:
            future.set_result(message)

    def _dots_line(self, line: str) -> None:
        vm, _, count = line.partition(" ")
        if count.strip().isdigit():
            self.on_dots(vm, int(count))

    def _ask(self, channel: Channel, message: dict[str, Any], timeout: float) -> dict[str, Any]:
        name = f"{'qmp' if channel is self.qmp_channel else 'run'}-{next(self.numbers)}"
        future: Future[dict[str, Any]] = Future()
        self.pending[name] = future
        channel.send({**message, "id": name})
        try:
            return future.result(timeout)
        finally:
            self.pending.pop(name, None)

    def qmp(self, execute: str, timeout: float = 60, **arguments: object) -> Any:
        """Ask QEMU for something."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        answer = self._ask(self.qmp_channel, {"execute": execute, "arguments": named}, timeout)
        if "error" in answer:
            raise LabError(f"{self.name}: {execute}: {answer['error']['desc']}")
        return answer["return"]

    def run(self, command: str, timeout: float, data: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside; TimeoutExpired if there is no answer."""
        message: dict[str, Any] = {"command": command, "timeout": timeout}
        if data is not None:
            message["input"] = data
        try:
            answer = self._ask(self.run_channel, message, timeout + 5)
        except (FutureTimeout, BrokenPipeError):
            raise subprocess.TimeoutExpired(command, timeout) from None
        if answer["code"] == 124 and answer["err"].startswith("timed out inside"):
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, answer["code"], answer["out"], answer["err"])

    def answers(self) -> bool:
        """Does the agent inside answer?"""
        try:
            return bool(self._ask(self.run_channel, {"command": ":", "timeout": 5}, 1)["code"] == 0)
        except FutureTimeout:
            return False

    def fail_disk(self, name: str, failed: bool) -> None:
        """From now on every read and write of a raw disk fails, or none any more."""
        broken, file = f"{name}-broken", f"{name}-file"
        if failed:
            errors = [{"event": "none", "iotype": kind, "errno": errno.EIO} for kind in ("read", "write")]
            self.qmp("blockdev-add", driver="blkdebug", node_name=broken, image=file, inject_error=errors)
        options = {"driver": "raw", "node-name": name, "discard": "unmap", "file": broken if failed else file}
        self.qmp("blockdev-reopen", options=[options])
        if not failed:
            self.qmp("blockdev-del", node_name=broken)

    def quit(self) -> None:
        """End QEMU so that its disks are complete."""
        self.qmp("quit")
        self.process.wait(30)

    def kill(self) -> None:
        """Pull the plug."""
        self.process.kill()
        self.process.wait()
        for channel in (self.qmp_channel, self.run_channel, self.dots_channel):
            channel.close()


def command_line(name: str, number: int, directory: Path, base: Base, disks: Sequence[Path],
                 taps: Mapping[Network, str]) -> list[str]:
    """QEMU's arguments for one node; its state in memory fits only the same arguments."""
    words = [*machine(accelerator(base)), "-name", name, "-kernel", str(base.kernel), "-initrd", str(base.initrd),
             "-append", CMDLINE.format(name=name, machine=number), "-serial", f"file:{directory / 'console.log'}",
             "-qmp", f"unix:{directory / 'qmp.sock'},server=on,wait=off", "-device", "virtio-serial-pci"]
    for kind in ("run", "dots"):
        words += ["-chardev", f"socket,id={kind},path={directory / kind}.sock,server=on,wait=off",
                  "-device", f"virtserialport,chardev={kind},name=lab.{kind}"]
    for position, disk in enumerate(disks):
        # the names are for fail_disk
        nodes = f"node-name={disk.stem},file.node-name={disk.stem}-file"
        words += ["-drive", f"file={disk},format={disk.suffix[1:]},if=none,id=disk{position},discard=unmap,{nodes}",
                  "-device", f"virtio-blk-pci,drive=disk{position}"]
    for network in NETWORKS:
        mac = f"52:54:00:00:{NETWORK_BYTE[network]:02}:{number:02}"
        words += ["-netdev", f"tap,id={network},ifname={taps[network]},script=no,downscript=no",
                  "-device", f"virtio-net-pci,netdev={network},id=nic-{network},mac={mac},romfile="]
    return words
