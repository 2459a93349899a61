"""A bad cable: frames between a port of a laboratory and its bridge pass through here, late, twice or out of order.

The kernel may lack netem. The port's own bridge state is "disabled", so that only this process moves its frames; with
the virtio header in front they keep their unfinished checksums and segments.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000
TUNSETOFFLOAD, TUN_F_CSUM = 0x400454D0, 0x01
SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL, PACKET_OUTGOING = 3, 4
LATE, EVERY = 0.05, 3  # a reordered link keeps every third frame back for so long


def open_port(name: str) -> socket.socket:
    """Whatever comes out of a network interface, and what is sent goes into it."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.bind((name, ETH_P_ALL))
    return port


def open_tap(name: str) -> int:
    """The other end of a tap device that exists and is plugged into the bridge."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM)
    return tap


def times(kind: str, seconds: float) -> Iterator[list[float]]:
    """For each frame: after how many seconds its copies are to arrive."""
    for number in itertools.count():
        if kind == "delay":
            yield [seconds]
        elif kind == "duplicate":
            yield [0.0, 0.0]
        else:
            yield [LATE if number % EVERY == 0 else 0.0]


class Wire:
    """Both directions of one cable."""

    def __init__(self, port: str, tap: str, kind: str, seconds: float) -> None:
        self.port, self.tap = open_port(port), open_tap(tap)
        self.plans = {"in": times(kind, seconds), "out": times(kind, seconds)}
        self.queue: list[tuple[float, int, str, bytes]] = []
        self.numbers = itertools.count()

    def once(self) -> None:
        """Wait for a frame, or until one is due."""
        due = max(0.0, self.queue[0][0] - time.monotonic()) if self.queue else None
        ready, _, _ = select.select([self.port, self.tap], [], [], due)
        with contextlib.suppress(OSError):  # a cable that is out
            if self.port in ready:
                frame, address = self.port.recvfrom(1 << 17)
                if address[2] != PACKET_OUTGOING:
                    self._take("out", frame)
        if self.tap in ready:
            self._take("in", os.read(self.tap, 1 << 17))
        while self.queue and self.queue[0][0] <= time.monotonic():
            self._deliver(*heapq.heappop(self.queue)[2:])

    def _take(self, direction: str, frame: bytes) -> None:
        for later in next(self.plans[direction]):
            heapq.heappush(self.queue, (time.monotonic() + later, next(self.numbers), direction, frame))

    def _deliver(self, direction: str, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            if direction == "in":
                self.port.send(frame)
            else:
                os.write(self.tap, frame)


if __name__ == "__main__":
    wire = Wire(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
    print("ready", flush=True)
    while True:
        wire.once()
