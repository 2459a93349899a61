"""Pings by icmplib, without waiting: asked now, answered when the socket says so."""

from icmplib import ICMPLibError, ICMPRequest, ICMPv4Socket

MOST_OUTSTANDING = 64


class Pinger:
    """Pings from one of this node's addresses; a missing address is tried again with every ping.

    icmplib matches replies by id and sequence alone (FACTS 5.1), so the source is checked here.
    """

    def __init__(self, source: str, identity: int) -> None:
        self.source = source
        self.identity = identity & 0xFFFF
        self.sequence = 0
        self.outstanding: dict[int, tuple[str, float]] = {}
        self.socket: ICMPv4Socket | None = None

    def open(self) -> bool:
        """True when there is a socket, new or old."""
        if self.socket is None:
            try:
                self.socket = ICMPv4Socket(self.source)
            except ICMPLibError:
                return False
        return True

    def fileno(self) -> int:
        """For a selector; icmplib has no public way to wait for several sockets at once."""
        return int(self.socket._sock.fileno()) if self.socket else -1

    def ask(self, address: str, now: float) -> None:
        """Send one echo request; what cannot be sent is not answered."""
        if not self.open() or self.socket is None:
            return
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.outstanding[self.sequence] = (address, now)
        for old in list(self.outstanding)[:-MOST_OUTSTANDING]:
            del self.outstanding[old]
        try:
            self.socket.send(ICMPRequest(address, self.identity, self.sequence, payload_size=16))
        except ICMPLibError:
            del self.outstanding[self.sequence]

    def answers(self, most: int) -> list[tuple[str, float]]:
        """(address, time asked) of the replies that wait in the socket, reading at most so many packets."""
        out: list[tuple[str, float]] = []
        for _ in range(most):
            try:
                reply = self.socket.receive(timeout=0.0005) if self.socket else None
            except ICMPLibError:
                break
            if reply is None:
                break
            asked = self.outstanding.get(reply.sequence)
            if asked and reply.type == 0 and reply.id == self.identity and reply.source == asked[0]:
                del self.outstanding[reply.sequence]
                out.append(asked)
        return out

    def close(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket = None
