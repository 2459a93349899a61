"""One resource in the world: its backing file, its connection, its handlers and what waits on it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from pathlib import Path

from tests.lab.standin.config import Config, address_exists
from tests.lab.standin.fuse import Answer
from tests.lab.standin.link import Link, Message
from tests.lab.standin.model import Conn, Disk, Effect, Hello, Meta, Refused, Resource, Role, Step

BLOCK = 4096
RESYNC_SECONDS = 0.4
HANDSHAKE_SECONDS = 0.5
HELPER = {"HOME": "/", "TERM": "linux", "PATH": "/sbin:/usr/sbin:/bin:/usr/bin"}


def meta_path(disk: str) -> Path:
    """Where the meta-data of a disk is kept."""
    return Path(disk + ".meta")


def load_meta(disk: str) -> Meta:
    """Read the meta-data of a disk."""
    try:
        stored = json.loads(meta_path(disk).read_text())
    except FileNotFoundError:
        raise Refused(1, "No valid meta data found") from None
    return Meta(**{**stored, "history": tuple(stored["history"]), "dirty": set(stored["dirty"])})


def save_meta(disk: str, meta: Meta) -> None:
    """Write the meta-data of a disk, whole or not at all."""
    path = meta_path(disk)
    path.with_suffix(".new").write_text(json.dumps({**asdict(meta), "dirty": sorted(meta.dirty)}))
    path.with_suffix(".new").rename(path)


def fresh() -> int:
    """A new generation identifier; its last bit is not used."""
    return secrets.randbits(60) & ~1 | 1 << 60


class Device:
    """One resource that is up; whatever changes its state ends in settle()."""

    def __init__(self, config: Config, changed: Callable[[], None]) -> None:
        self.config = config
        self.changed = changed
        self.fd = os.open(config.disk, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self.fd).st_size
        self.state = Resource(load_meta(config.disk), config.options, fresh, config.first)
        self.link: Link | None = None
        self.lock = asyncio.Lock()
        self.waiting: list[Callable[[], None]] = []
        self.unacknowledged: dict[int, tuple[int, bytes, Answer]] = {}
        self.remote_reads: dict[int, tuple[int, int, Answer]] = {}
        self.newer: list[tuple[int, bytes]] = []  # written here before the peer's image came
        self.sequence = 0
        self.consent: asyncio.Future[bool | None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None
        self._told: Message = {}
        self._saved = ""
        self.spawn(self._seek())
        self.settle()

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run something beside."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def close(self) -> None:
        """The resource goes down."""
        self._hang_up()
        for task in self.tasks:
            task.cancel()
        if self.server:
            self.server.close()
        os.close(self.fd)

    # After every change

    def settle(self, effects: list[Effect] | None = None) -> None:
        """Make the world agree with the state."""
        for effect in effects or []:
            self._carry_out(effect)
        self._save()
        self._tell()
        self._let_go()
        self.changed()

    def _carry_out(self, effect: Effect) -> None:
        if effect is Effect.CLOSE:
            self._hang_up()
        elif effect is Effect.FENCE:
            self.spawn(self._fence())
        else:
            self.spawn(self._call(effect))

    def _save(self) -> None:
        now = repr(self.state.meta)
        if now != self._saved:
            save_meta(self.config.disk, self.state.meta)
            self._saved = now

    def _tell(self) -> None:
        current = self.state.meta.current
        told: Message = {"is": "state", "role": self.state.role, "disk": int(self.state.disk), "current": current}
        if self.link and self.state.linked and told != self._told:
            self.link.send(told)
            self._told = told

    def _let_go(self) -> None:
        """Answer what waited, as far as the state allows."""
        if self.state.frozen:
            return
        if not self.state.replicating:
            writes, self.unacknowledged = list(self.unacknowledged.values()), {}
            for offset, data, answer in writes:
                self._mark(offset, len(data))
                answer(b"")
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action()

    # The peer

    async def _seek(self) -> None:
        """Listen, and on one of the nodes call the other, for as long as the resource is up."""
        while True:
            if self.state.conn is Conn.WAITING:
                if not address_exists(self.config.address):
                    self.settle(self.state.disconnect())
                elif self.server is None:
                    await self._listen()
                if self.config.first:
                    await self._dial()
            await asyncio.sleep(self.config.seconds("connect-int", 10.0) * (0.3 if self.server is None else 0.5))

    async def _listen(self) -> None:
        with contextlib.suppress(OSError):
            self.server = await asyncio.start_server(
                self._accept, self.config.address, self.config.port, reuse_address=True)

    async def _dial(self) -> None:
        mine, there = (self.config.address, 0), (self.config.peer_address, self.config.port)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(1.0):
                link = Link(*await asyncio.open_connection(*there, local_addr=mine))
            async with self.lock:
                try:
                    await self._call_out(link)
                finally:
                    self._close_unless_used(link)

    async def _call_out(self, link: Link) -> None:
        if self.state.conn is not Conn.WAITING:
            return
        link.send({"is": "hello", "hello": self.state.hello().as_dict()})
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            message, _ = await link.receive()
        self._meet(link, Hello.from_dict(message["hello"]))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(HANDSHAKE_SECONDS * 2):
                message, _ = await link.receive()
            async with self.lock:
                if self.state.conn is Conn.WAITING and not reader.at_eof():
                    link.send({"is": "hello", "hello": self.state.hello().as_dict()})
                    self._meet(link, Hello.from_dict(message["hello"]))
        self._close_unless_used(link)

    def _close_unless_used(self, link: Link) -> None:
        if link is not self.link:
            link.close()

    def _meet(self, link: Link, peer: Hello) -> None:
        effects = self.state.meet(peer)
        if self.state.linked:
            self.link, self._told = link, {}
            self.spawn(self._serve(link))
            for sequence, (offset, data, _) in self.unacknowledged.items():
                link.send({"is": "write", "sequence": sequence, "offset": offset}, data)
            for sequence, (offset, size, _) in self.remote_reads.items():
                link.send({"is": "read", "sequence": sequence, "offset": offset, "size": size})
        self.settle(effects)
        if self.state.conn is Conn.SOURCE:
            self.spawn(self._resync(link))

    async def _serve(self, link: Link) -> None:
        config = self.config
        await link.serve(config.seconds("ping-int", 10.0), config.seconds("ping-timeout", 0.5, 0.1), self._take)
        if link is self.link:
            self._hang_up()
            self.settle(self.state.lost())

    def _hang_up(self) -> None:
        link, self.link = self.link, None
        if link:
            link.close()
        if self.consent and not self.consent.done():
            self.consent.set_result(None)

    async def _resync(self, link: Link) -> None:
        image = zlib.compress(os.pread(self.fd, self.size, 0), 1)
        link.send({"is": "image", "identifier": self.state.meta.bitmap}, image)
        await asyncio.sleep(RESYNC_SECONDS)
        link.send({"is": "synced", "current": self.state.meta.current})

    def _take(self, message: Message, data: bytes) -> None:
        getattr(self, f"_take_{message['is']}")(message, data)

    def _take_state(self, message: Message, _data: bytes) -> None:
        self.settle(self.state.peer_is(Role(message["role"]), Disk(message["disk"]), message["current"]))

    def _take_image(self, message: Message, data: bytes) -> None:
        self.settle(self.state.overwritten(message["identifier"]))
        os.pwrite(self.fd, zlib.decompress(data), 0)
        newer, self.newer = self.newer, []
        for offset, written in newer:
            os.pwrite(self.fd, written, offset)

    def _take_attach(self, _message: Message, _data: bytes) -> None:
        self.settle(self.state.peer_attached())
        if self.link:
            self.spawn(self._resync(self.link))

    def _take_synced(self, message: Message, _data: bytes) -> None:
        self._send({"is": "insync"})
        self.settle(self.state.synced(message["current"]))

    def _take_insync(self, _message: Message, _data: bytes) -> None:
        self.settle(self.state.synced(self.state.meta.current))

    def _take_skip(self, message: Message, _data: bytes) -> None:
        self.settle(self.state.skip_sync(message["current"]))

    def _take_resize(self, _message: Message, _data: bytes) -> None:
        self.measure()

    def _take_net(self, message: Message, _data: bytes) -> None:
        self.allow_two_primaries(message["two_primaries"])

    def _take_ask(self, message: Message, _data: bytes) -> None:
        part = message["what"] == "part"
        self._send({"is": "answer", "yes": part or self.state.consents()})
        if part:
            self.settle(self.state.part_gracefully(leaving=False))

    def _take_answer(self, message: Message, _data: bytes) -> None:
        if self.consent and not self.consent.done():
            self.consent.set_result(message["yes"])

    def _take_write(self, message: Message, data: bytes) -> None:
        if self.state.disk is not Disk.DISKLESS:
            os.pwrite(self.fd, data, message["offset"])
        self._send({"is": "written", "sequence": message["sequence"]})

    def _take_written(self, message: Message, _data: bytes) -> None:
        _, _, answer = self.unacknowledged.pop(message["sequence"], (0, b"", None))
        if answer:
            answer(b"")

    def _take_read(self, message: Message, _data: bytes) -> None:
        data = os.pread(self.fd, message["size"], message["offset"])
        self._send({"is": "data", "sequence": message["sequence"]}, data)

    def _take_data(self, message: Message, data: bytes) -> None:
        _, _, answer = self.remote_reads.pop(message["sequence"], (0, 0, None))
        if answer:
            answer(data)

    def _send(self, message: Message, data: bytes = b"") -> None:
        if self.link:
            self.link.send(message, data)

    async def _ask(self, what: str) -> bool | None:
        """Ask the peer; None if it is lost meanwhile."""
        if not self.link:
            return None
        self.consent = asyncio.get_running_loop().create_future()
        self._send({"is": "ask", "what": what})
        self.link.ping()
        return await self.consent

    # Handlers

    async def _fence(self) -> None:
        epoch = self.state.epoch
        code = await self._handle("fence-peer")
        self.settle(self.state.fence_answered(code, epoch))

    async def _call(self, name: str) -> None:
        if name == Effect.SPLIT_BRAIN:
            await self._handle("initial-split-brain")
        await self._handle(name)

    async def _handle(self, name: str) -> int:
        """Run a handler as drbdadm does for the kernel; its exit code."""
        config = self.config
        if name not in config.handlers:
            return 20
        environment = {
            **HELPER, **{name: value for name, value in os.environ.items() if name.startswith("KC_")},
            "DRBD_RESOURCE": config.name, "DRBD_MINOR": str(config.minor), "DRBD_VOLUME": "0",
            "DRBD_LL_DISK": config.disk, "DRBD_PEER": config.peer, "DRBD_PEERS": config.peer,
            "DRBD_PEER_ADDRESS": config.peer_address, "DRBD_PEER_AF": "ipv4", "DRBD_CONF": "/etc/drbd.conf"}
        nowhere = asyncio.subprocess.DEVNULL  # as for every child of the kernel
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", config.handlers[name], env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        return await process.wait()

    # What commands do

    async def promote(self, force: bool) -> None:
        """Become Primary."""
        async with self.lock:
            if self.state.role is Role.PRIMARY:
                return
            if self.link:
                self.link.ping()
            steps, answer, effects = self.state.promote(force), None, None
            try:
                while True:
                    answer = await self._step(steps.send(answer))
                    self.settle()
            except StopIteration as done:
                effects = done.value
            finally:
                self.settle(effects)

    async def _step(self, step: Step) -> object:
        if step is Step.ASK:
            return await self._ask("primary")
        if step is Step.FENCE:
            return await self._handle("fence-peer")
        await asyncio.sleep(self.config.seconds("ping-timeout", 0.5, 0.1) + 0.1)
        return None

    async def disconnect(self, force: bool) -> None:
        """Part from the peer, with its consent or by force."""
        async with self.lock:
            stale = self.state.leaves_a_primary
            if not force and self.state.linked and await self._ask("part"):
                self.settle(self.state.part_gracefully(leaving=True, stale=stale))
            else:
                self.settle(self.state.disconnect())

    def allow_two_primaries(self, allowed: bool) -> None:
        """A run-time option, pushed to the peer by whoever sets it."""
        self.state.options = replace(self.state.options, two_primaries=allowed)
        self.changed()

    def set_two_primaries(self, allowed: bool) -> None:
        """As net-options does."""
        both = self.state.role is self.state.peer_role is Role.PRIMARY
        if self.state.conn is Conn.STANDALONE or (both and not allowed):
            raise Refused(10, "Failure: (164) allow-two-primaries is needed or no network configured")
        self.allow_two_primaries(allowed)
        self._send({"is": "net", "two_primaries": allowed})

    def skip_sync(self) -> None:
        """Declare both copies good."""
        identifier = fresh()
        effects = self.state.skip_sync(identifier)
        self._send({"is": "skip", "current": identifier})
        self.settle(effects)

    def resize(self) -> None:
        """Take the size that both disks have by now [drbd_adm_resize]; the new part is not resynced."""
        if self.state.conn is not Conn.CONNECTED:
            raise Refused(10, "Failure: (130) Resize not allowed during resync.")
        if Role.PRIMARY not in (self.state.role, self.state.peer_role):
            raise Refused(10, "Failure: (131) Need one primary node to resize.")
        self._send({"is": "resize"})
        self.measure()

    def measure(self) -> None:
        """The disk below has grown."""
        self.size = os.fstat(self.fd).st_size

    def attach(self) -> None:
        """The disk is back; a peer with good data brings it up to date."""
        effects = self.state.attach()
        self.newer = []
        if self.state.conn is Conn.TARGET:
            self._send({"is": "attach"})
        self.settle(effects)

    # What the guest does

    def opened(self, writing: bool) -> int:
        """Only a Primary can be opened."""
        if self.state.role is not Role.PRIMARY:
            return errno.EROFS if writing else errno.EMEDIUMTYPE
        self.state.opens += 1
        return 0

    def released(self) -> None:
        """One opener less."""
        self.state.opens -= 1

    def read(self, offset: int, size: int, answer: Answer) -> None:
        """Read here, or there if our own disk is not good."""
        if self.state.frozen:
            self.waiting.append(lambda: self.read(offset, size, answer))
        elif self.state.disk >= Disk.OUTDATED or not self.link:
            answer(os.pread(self.fd, size, offset))
        else:
            self.sequence += 1
            self.remote_reads[self.sequence] = (offset, size, answer)
            self._send({"is": "read", "sequence": self.sequence, "offset": offset, "size": size})

    def write(self, offset: int, data: bytes, answer: Answer) -> None:
        """Write here and there; answer when both are done."""
        if self.state.frozen:
            self.waiting.append(lambda: self.write(offset, data, answer))
            return
        if self.state.disk is not Disk.DISKLESS:
            os.pwrite(self.fd, data, offset)
        if self.state.conn is Conn.TARGET:
            self.newer.append((offset, data))
        if self.state.replicating:
            self.sequence += 1
            self.unacknowledged[self.sequence] = (offset, data, answer)
            self._send({"is": "write", "sequence": self.sequence, "offset": offset}, data)
        else:
            self._mark(offset, len(data))
            answer(b"")

    def _mark(self, offset: int, size: int) -> None:
        for block in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1):
            self.state.write(block)
        self._save()
