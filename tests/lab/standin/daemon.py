"""The kernel's part of DRBD on one node: devices, /proc/drbd, and a socket where drbdadm asks."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from pathlib import Path

from tests.lab.standin import commands
from tests.lab.standin.config import Config
from tests.lab.standin.device import Device
from tests.lab.standin.fuse import Disk, FileSystem

SOCKET = "/run/lab-drbd/socket"
PROC = Path(os.environ.get("KC_PROC_DRBD", "/run/lab-drbd/proc"))
BY_RES = Path(os.environ.get("KC_BY_RES", "/dev/drbd/by-res"))
MOUNTPOINT = "/dev/lab-drbd"
VERSION = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 0000000000000000STANDIN\n"
FIRST_NODE = 2


class Daemon:
    """All resources of this node that are up."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.disks: dict[int, tuple[str, Disk]] = {}
        self.shown = ""
        self.files = FileSystem(MOUNTPOINT, self.disks)
        self.show()

    def up(self, config: Config) -> Device:
        """Attach a resource and give it its names."""
        device = self.devices[config.name] = Device(config, self.show)
        self.disks[FIRST_NODE + config.minor] = (f"drbd{config.minor}", device)
        name = BY_RES / config.name / "0"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        name.symlink_to(f"{MOUNTPOINT}/drbd{config.minor}")
        self.show()
        return device

    def down(self, name: str) -> None:
        """Take a resource away."""
        device = self.devices.pop(name)
        device.close()
        del self.disks[FIRST_NODE + device.config.minor]
        shutil.rmtree(BY_RES / name, ignore_errors=True)
        self.show()

    def show(self) -> None:
        """Write /proc/drbd, if it changed."""
        text = VERSION
        for device in sorted(self.devices.values(), key=lambda device: device.config.minor):
            stale = len(device.state.meta.dirty) * 4
            text += f"{device.state.proc_line(device.config.minor)}\n"
            text += f"    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:{stale}\n"
        if text != self.shown:
            self.shown = text
            PROC.with_suffix(".new").write_text(text)
            PROC.with_suffix(".new").rename(PROC)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what one drbdadm asks."""
        arguments = json.loads(await reader.readline())
        code, out, err = await commands.run(self, arguments)
        writer.write(json.dumps([code, out, err]).encode())
        writer.close()

    async def main(self) -> None:
        """Run until killed."""
        asyncio.get_running_loop().add_reader(self.files.fd, self.files.serve)
        server = await asyncio.start_unix_server(self.answer, SOCKET)
        _ready()
        await server.serve_forever()


def _ready() -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", path.replace("@", "\0", 1))


async def start() -> None:
    """Begin inside the loop: devices make tasks."""
    for path in (SOCKET, PROC):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).unlink(missing_ok=True)
    await Daemon().main()


if __name__ == "__main__":
    asyncio.run(start())
