"""The connection of one resource to its peer: messages with a payload over TCP, watched by pings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]

LENGTHS = struct.Struct(">II")
LOOK_EVERY = 0.1


class Link:
    """One connection; nothing is sent on it, nor awaited from it, after close()."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.open = True
        self._heard = self._asked = asyncio.get_running_loop().time()
        self._pinged = False

    def send(self, message: Message, data: bytes = b"") -> None:
        """Send without waiting."""
        if self.open:
            head = json.dumps(message).encode()
            self.writer.write(LENGTHS.pack(len(head), len(data)) + head + data)

    async def receive(self) -> tuple[Message, bytes]:
        """The next message that is not a ping."""
        while True:
            lengths = LENGTHS.unpack(await self.reader.readexactly(LENGTHS.size))
            message = json.loads(await self.reader.readexactly(lengths[0]))
            data = await self.reader.readexactly(lengths[1])
            self._heard, self._pinged = asyncio.get_running_loop().time(), False
            if message["is"] == "ping":
                self.send({"is": "pong"})
            elif message["is"] != "pong":
                return message, data

    async def serve(self, every: float, patience: float, take: Callable[[Message, bytes], None]) -> None:
        """Hand over messages until the connection ends, or the peer has not answered a ping in time."""
        guard = asyncio.get_running_loop().create_task(self._guard(every, patience))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while self.open:
                take(*await self.receive())
        guard.cancel()
        self.close()

    async def _guard(self, every: float, patience: float) -> None:
        clock = asyncio.get_running_loop().time
        while self.open:
            await asyncio.sleep(LOOK_EVERY)
            if self._pinged and clock() - self._asked > patience:
                self.close()
                self.reader.feed_eof()
            elif not self._pinged and clock() - self._heard > every:
                self.ping()

    def ping(self) -> None:
        """Ask for a sign of life now."""
        if not self._pinged:
            self._pinged, self._asked = True, asyncio.get_running_loop().time()
            self.send({"is": "ping"})

    def close(self) -> None:
        """End it; what was sent before may still arrive."""
        if self.open:
            self.open = False
            self.writer.close()
