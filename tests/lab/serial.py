"""Listen to the serial ports of the guests and note their dots."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab.pair import NODES, VMS, Dots

LOOK_EVERY = 0.03


class Collector:
    """A thread that connects to every serial socket as soon as it is there."""

    def __init__(self, where: Callable[[str, str], Path | None]) -> None:
        self.dots = {vm: Dots() for vm in VMS}
        self.deaf: set[str] = set()
        self._where = where
        self._sockets: dict[tuple[str, str], socket.socket] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def listen(self, vm: str, on: bool) -> None:
        """Leave a guest's serial port to somebody else for a while: it serves one client at a time."""
        (self.deaf.discard if on else self.deaf.add)(vm)

    def forget(self) -> None:
        """The guests begin anew."""
        self.dots = {vm: Dots() for vm in VMS}

    def _collect(self) -> None:
        while not self._closing.is_set():
            self._connect()
            ready, _, _ = select.select(list(self._sockets.values()), [], [], LOOK_EVERY)
            for key in [key for key, serial in self._sockets.items() if serial in ready]:
                self._take(*key)
            if not self._sockets:
                self._closing.wait(LOOK_EVERY)

    def _connect(self) -> None:
        for node, vm in self._missing():
            path = self._where(node, vm)
            if path is None:
                continue
            serial = socket.socket(socket.AF_UNIX)
            serial.settimeout(0.2)
            try:
                serial.connect(str(path))
            except OSError:
                serial.close()
            else:
                self._sockets[node, vm] = serial

    def _missing(self) -> Iterator[tuple[str, str]]:
        for vm in VMS:
            for node in NODES:
                if vm in self.deaf:
                    self._drop(node, vm)
                elif (node, vm) not in self._sockets:
                    yield node, vm

    def _take(self, node: str, vm: str) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = self._sockets[node, vm].recv(4096)
        if data:
            self.dots[vm].add(node, data.count(b"."))
        else:
            self._drop(node, vm)

    def _drop(self, node: str, vm: str) -> None:
        serial = self._sockets.pop((node, vm), None)
        if serial:
            serial.close()

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._thread.join(2)
        for key in list(self._sockets):
            self._drop(*key)
