"""What DRBD says of a resource, in /proc/drbd's words: `Connected Primary/Secondary UpToDate/UpToDate r`."""

from __future__ import annotations

import re
from typing import NamedTuple

# In the order of the kernel's enum drbd_conns (FACTS 1.3): from Connected on, the two speak with each other.
CONNECTIONS = (
    "Unconfigured StandAlone Disconnecting Unconnected Timeout BrokenPipe NetworkFailure ProtocolError TearDown "
    "WFConnection WFReportParams Connected StartingSyncS StartingSyncT WFBitMapS WFBitMapT WFSyncUUID "
    "SyncSource SyncTarget VerifyS VerifyT PausedSyncS PausedSyncT Ahead Behind"
).split()
ROLES = ("Primary", "Secondary", "Unknown")
DISKS = "Diskless Attaching Failed Negotiating Inconsistent Outdated DUnknown Consistent UpToDate".split()
BAD = ("Diskless", "Failed")
_LINE = re.compile(r"([A-Za-z]+) ([A-Za-z]+)/([A-Za-z]+) ([A-Za-z]+)/([A-Za-z]+) ([rs])")


class Drbd(NamedTuple):
    """One resource as one node's kernel sees it; several volumes: the worst of each."""

    connection: str
    role: str
    peer_role: str
    disk: str
    peer_disk: str
    frozen: bool

    @classmethod
    def parse(cls, line: str | None) -> Drbd | None:
        """The words of a state file, or None for anything that DRBD would not say."""
        match = _LINE.fullmatch(line or "")
        if not match:
            return None
        connection, role, peer_role, disk, peer_disk, flag = match.groups()
        if not (connection in CONNECTIONS and {role, peer_role} <= set(ROLES) and {disk, peer_disk} <= set(DISKS)):
            return None
        return cls(connection, role, peer_role, disk, peer_disk, flag == "s")

    @classmethod
    def worst(cls, volumes: list[Drbd]) -> Drbd:
        """One word for a resource of several volumes: a VM is as well as its worst disk."""
        apart = [v.connection for v in volumes if not v.connected]
        together = [v.connection for v in volumes if v.connected]
        return cls(
            min(apart, key=CONNECTIONS.index) if apart else max(together, key=CONNECTIONS.index),
            min((v.role for v in volumes), key=ROLES.index),
            min((v.peer_role for v in volumes), key=ROLES.index),
            min((v.disk for v in volumes), key=DISKS.index),
            min((v.peer_disk for v in volumes), key=DISKS.index),
            any(v.frozen for v in volumes),
        )

    def __str__(self) -> str:
        flag = "s" if self.frozen else "r"
        return f"{self.connection} {self.role}/{self.peer_role} {self.disk}/{self.peer_disk} {flag}"

    @property
    def connected(self) -> bool:
        return CONNECTIONS.index(self.connection) >= CONNECTIONS.index("Connected")

    @property
    def primary(self) -> bool:
        return self.role == "Primary"

    @property
    def even(self) -> bool:
        """Connected UpToDate/UpToDate: both copies are the same and good."""
        return self.connection == "Connected" and self.disk == self.peer_disk == "UpToDate"

    @property
    def waiting(self) -> bool:
        """Primary, without the peer, and frozen until somebody says that it may go on."""
        return self.primary and not self.connected and self.frozen

    @property
    def writable(self) -> bool:
        """Primary, and not frozen."""
        return self.primary and not self.frozen

    @property
    def running_alone(self) -> bool:
        """Primary, without the peer, and writing."""
        return self.writable and not self.connected

    @property
    def only_copy(self) -> bool:
        """What a guest writes is on this disk and not on the peer's: it is away, or its disk has failed (*20)."""
        failed = self.connected and self.disk == "UpToDate" and self.peer_disk in BAD
        return self.running_alone or failed and "Primary" in (self.role, self.peer_role)
