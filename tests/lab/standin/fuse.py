"""Just enough of the FUSE protocol to show a few disks as files in one directory.

A request that the disk does not answer keeps its process in uninterruptible sleep, as a frozen DRBD does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

BUFFER = 1 << 18
MAX_WRITE = 1 << 17
ROOT = 1
INIT_FLAGS = 1 << 0 | 1 << 5 | 1 << 15  # ASYNC_READ, BIG_WRITES, ASYNC_DIO
DIRECT_IO = 1
MS_NOSUID_NODEV = 6

HEADER = struct.Struct("<IIQQIIIHH")
ANSWER = struct.Struct("<IiQ")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
TRANSFER = struct.Struct("<QQIIQII")


class Op(IntEnum):
    """The requests that are understood."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


SILENT = (Op.FORGET, Op.INTERRUPT, Op.BATCH_FORGET)
Answer = Callable[[bytes], None]


class Disk(Protocol):
    """What stands behind one file."""

    size: int

    def opened(self, writing: bool) -> int:
        """An errno, or 0."""

    def released(self) -> None:
        """The last descriptor of one open is gone."""

    def read(self, offset: int, size: int, answer: Answer) -> None:
        """Answer with the data, now or later."""

    def write(self, offset: int, data: bytes, answer: Answer) -> None:
        """Answer with nothing once the data is safe."""


@dataclass
class Owner:
    """Who may use the files."""

    mode: int = 0o660
    uid: int = 0
    gid: int = 6


class FileSystem:
    """The mounted directory; disks maps a node id (2 and more) to name and disk."""

    def __init__(self, mountpoint: str, disks: Mapping[int, tuple[str, Disk]]) -> None:
        self.disks = disks
        self.owners: dict[int, Owner] = {}
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        os.makedirs(mountpoint, exist_ok=True)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"drbd", mountpoint.encode(), b"fuse", MS_NOSUID_NODEV, options.encode()):
            raise OSError(ctypes.get_errno(), "cannot mount", mountpoint)

    def serve(self) -> None:
        """Take one request, if there is one."""
        try:
            request = os.read(self.fd, BUFFER)
        except (BlockingIOError, FileNotFoundError, InterruptedError):
            return
        _, opcode, unique, node, *_rest = HEADER.unpack_from(request)
        if opcode in SILENT:
            return
        try:
            reply = self._do(opcode, unique, node, request[HEADER.size:])
        except OSError as error:
            self._reply(unique, b"", error.errno or errno.EIO)
        else:
            if reply is not None:
                self._reply(unique, reply)

    def _reply(self, unique: int, data: bytes, error: int = 0) -> None:
        try:
            os.write(self.fd, ANSWER.pack(ANSWER.size + len(data), -error, unique) + data)
        except FileNotFoundError:
            return  # who asked is gone

    def _do(self, opcode: int, unique: int, node: int, body: bytes) -> bytes | None:
        match opcode:
            case Op.INIT:
                return _init(body)
            case Op.LOOKUP:
                return self._lookup(body.rstrip(b"\0").decode())
            case Op.GETATTR:
                return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
            case Op.SETATTR:
                return self._set_attributes(node, body)
            case Op.OPEN:
                return self._open(node, body)
            case Op.READ | Op.WRITE:
                self._transfer(opcode, unique, node, body)
                return None
            case Op.RELEASE:
                self._disk(node).released()
                return b""
            case Op.STATFS:
                return struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 512, 255, 512, 0)
            case Op.OPENDIR:
                return struct.pack("<QII", 0, 0, 0)
            case Op.READDIR:
                return self._list(body)
            case Op.FSYNC | Op.FLUSH | Op.RELEASEDIR | Op.DESTROY:
                return b""
        raise OSError(errno.ENOSYS, "not supported")

    def _disk(self, node: int) -> Disk:
        if node not in self.disks:
            raise OSError(errno.ENOENT, "no such device")
        return self.disks[node][1]

    def _lookup(self, name: str) -> bytes:
        for node, (known, _) in self.disks.items():
            if known == name:
                return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self._attributes(node)
        raise OSError(errno.ENOENT, "no such device")

    def _attributes(self, node: int) -> bytes:
        if node == ROOT:
            return ATTR.pack(ROOT, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 512, 0)
        size, owner = self._disk(node).size, self.owners.setdefault(node, Owner())
        who = (stat.S_IFREG | owner.mode, 1, owner.uid, owner.gid)
        return ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, *who, 0, 4096, 0)

    def _set_attributes(self, node: int, body: bytes) -> bytes:
        valid, = struct.unpack_from("<I", body)
        mode, _, uid, gid = struct.unpack_from("<IIII", body, 68)
        owner = self.owners.setdefault(node, Owner())
        self.owners[node] = Owner(
            mode & 0o7777 if valid & 1 else owner.mode, uid if valid & 2 else owner.uid,
            gid if valid & 4 else owner.gid)
        return struct.pack("<QII", 0, 0, 0) + self._attributes(node)

    def _open(self, node: int, body: bytes) -> bytes:
        flags, = struct.unpack_from("<I", body)
        error = self._disk(node).opened((flags & os.O_ACCMODE) != os.O_RDONLY)
        if error:
            raise OSError(error, os.strerror(error))
        return struct.pack("<QII", 0, DIRECT_IO, 0)

    def _transfer(self, opcode: int, unique: int, node: int, body: bytes) -> None:
        _, offset, size, *_rest = TRANSFER.unpack_from(body)
        disk = self._disk(node)
        if opcode == Op.READ:
            disk.read(offset, max(0, min(size, disk.size - offset)), lambda data: self._reply(unique, data))
            return
        data = body[TRANSFER.size:TRANSFER.size + size]
        if offset + len(data) > disk.size:
            raise OSError(errno.ENOSPC, "beyond the end of the device")
        disk.write(offset, data, lambda _: self._reply(unique, struct.pack("<II", len(data), 0)))

    def _list(self, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        entries = b""
        for index, (node, (name, _)) in enumerate(list(self.disks.items())[offset:], offset + 1):
            entry = struct.pack("<QQII", node, index, len(name), stat.S_IFREG >> 12) + name.encode()
            entries += entry + b"\0" * (-len(entry) % 8)
        return entries[:size]


def _init(body: bytes) -> bytes:
    _, minor, readahead, flags = struct.unpack_from("<IIII", body)
    version = (7, min(minor, 31))
    return struct.pack("<IIIIHHII36x", *version, readahead, flags & INIT_FLAGS, 64, 48, MAX_WRITE, 1)
