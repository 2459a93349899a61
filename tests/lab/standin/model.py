"""DRBD 8.4's rules for one resource on one node, for a pair: no clock, no sockets, no files.

The names in brackets are the kernel's functions whose rules are kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any

JUST_CREATED = 4
TRIES = 4


class Role(StrEnum):
    """What a node may do with the device."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    UNKNOWN = "Unknown"


class Conn(StrEnum):
    """The connection to the peer."""

    STANDALONE = "StandAlone"
    WAITING = "WFConnection"
    CONNECTED = "Connected"
    SOURCE = "SyncSource"
    TARGET = "SyncTarget"


class Disk(IntEnum):
    """How good a copy is, the worst first: the kernel compares them by order."""

    DISKLESS = 0
    INCONSISTENT = 1
    OUTDATED = 2
    UNKNOWN = 3
    CONSISTENT = 4
    UPTODATE = 5

    def __str__(self) -> str:
        return ("Diskless", "Inconsistent", "Outdated", "DUnknown", "Consistent", "UpToDate")[self]


class Fencing(StrEnum):
    """The disk option `fencing`."""

    DONT_CARE = "dont-care"
    RESOURCE_ONLY = "resource-only"
    STONITH = "resource-and-stonith"


class Effect(StrEnum):
    """What the world has to do after a change: call a handler of that name, or close the connection."""

    FENCE = "fence-peer"
    UNFENCE = "unfence-peer"
    SPLIT_BRAIN = "split-brain"
    BEFORE_TARGET = "before-resync-target"
    AFTER_TARGET = "after-resync-target"
    IO_ERROR = "local-io-error"
    CLOSE = "close"


class Step(StrEnum):
    """What a promotion needs before it can go on; the answer is sent into the generator."""

    FENCE = "the exit code of the fence-peer handler"
    ASK = "the peer's consent: True, False, or None if the connection was lost"
    WAIT = "ping-timeout and 0.1 s more"


class Refused(Exception):
    """A command fails, with drbdadm's exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Options:
    """The options of a resource that matter here."""

    fencing: Fencing = Fencing.DONT_CARE
    two_primaries: bool = False
    after_sb_0pri: str = "disconnect"
    suspend_no_data: bool = False


@dataclass
class Meta:
    """What survives a power loss: the generation identifiers, the flags and the bitmap of changed blocks."""

    current: int = JUST_CREATED
    bitmap: int = 0
    history: tuple[int, int] = (0, 0)
    consistent: bool = False
    up_to_date: bool = False
    peer_outdated: bool = False
    primary: bool = False
    dirty: set[int] = field(default_factory=set)

    def identifiers(self) -> str:
        """As `drbdadm get-gi` prints them."""
        flags = (self.consistent, self.up_to_date, self.primary, False, False, self.peer_outdated)
        ids = (self.current, self.bitmap, *self.history)
        return ":".join([*(f"{i:016X}" for i in ids), *(str(int(flag)) for flag in flags)])


@dataclass(frozen=True)
class Hello:
    """What a node tells the other when they meet."""

    role: Role
    disk: Disk
    current: int
    bitmap: int
    history: tuple[int, int]
    crashed: bool
    changes: int
    two_primaries: bool
    discard: bool
    stuck: bool
    first: bool
    exposed: int = 0

    def as_dict(self) -> dict[str, object]:
        """For the wire."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Hello:
        """From the wire."""
        typed = {"role": Role(data["role"]), "disk": Disk(data["disk"]), "history": tuple(data["history"])}
        return cls(**{**data, **typed})


def compare(mine: Hello, peer: Hello) -> int:
    """Whose data is newer [drbd_uuid_compare].

    0 the same, 1 mine (by the bitmap), 2 mine (full sync), negative the peer's; 100 split brain,
    -100 split brain that only the history tells, -1000 unrelated.
    """
    if mine.current == JUST_CREATED or peer.current == JUST_CREATED:
        return 2 * ((mine.current != JUST_CREATED) - (peer.current != JUST_CREATED))
    if mine.current == peer.current:
        return _compare_equal(mine, peer)
    for newer, older, sign in ((peer, mine, -1), (mine, peer, 1)):
        if older.current in (newer.bitmap, newer.history[0]):
            return sign
        if older.current == newer.history[1]:
            return 2 * sign
    if mine.bitmap and mine.bitmap == peer.bitmap:
        return 100
    return -100 if set(mine.history) & set(peer.history) - {0} else -1000


def _compare_equal(mine: Hello, peer: Hello) -> int:
    if mine.bitmap and not peer.bitmap:
        return 1
    if peer.bitmap and not mine.bitmap:
        return -1
    if mine.crashed and peer.crashed:
        return 1 if mine.first else -1
    return mine.crashed - peer.crashed


@dataclass
class Resource:
    """One resource of one node, while it is up."""

    meta: Meta
    options: Options
    fresh: Callable[[], int]
    first: bool
    role: Role = Role.SECONDARY
    conn: Conn = Conn.STANDALONE
    disk: Disk = Disk.DISKLESS
    peer_role: Role = Role.UNKNOWN
    peer_disk: Disk = Disk.UNKNOWN
    fenced_io: bool = False
    opens: int = 0
    epoch: int = 0
    crashed: bool = False
    discard: bool = False
    new_id_due: bool = False
    promoting: bool = False
    exposed: int = 0  # diskless: the identifier of the last data shown to the guest [ed_uuid]

    def __post_init__(self) -> None:
        """Attach the disk [drbd_adm_attach]."""
        meta = self.meta
        self.crashed = meta.primary
        if meta.primary:
            meta.dirty.add(0)
        self.disk = attached(meta, self.options)
        if meta.peer_outdated:
            self.peer_disk = Disk.OUTDATED
        self._save()

    # What can be seen

    @property
    def linked(self) -> bool:
        """Is there a working connection?"""
        return self.conn in (Conn.CONNECTED, Conn.SOURCE, Conn.TARGET)

    @property
    def frozen(self) -> bool:
        """Does all input and output wait?"""
        no_data = max(self.disk, self.peer_disk if self.linked else Disk.DISKLESS) < Disk.UPTODATE
        return self.role is Role.PRIMARY and (self.fenced_io or (self.options.suspend_no_data and no_data))

    @property
    def replicating(self) -> bool:
        """Does a write go to the peer, too?"""
        return self.linked and self.peer_disk is not Disk.DISKLESS

    def proc_line(self, minor: int) -> str:
        """The line of /proc/drbd [drbd_seq_show]."""
        protocol = " " if self.conn is Conn.STANDALONE else "C"
        flag = "s" if self.frozen else "r"
        return (f"{minor:2d}: cs:{self.conn} ro:{self.role}/{self.peer_role} "
                f"ds:{self.disk}/{self.peer_disk} {protocol} {flag}-----")

    def hello(self) -> Hello:
        """What the peer has to know when we meet."""
        meta = self.meta
        return Hello(
            role=self.role, disk=self.disk, current=meta.current, bitmap=meta.bitmap, history=meta.history,
            crashed=self.crashed, changes=len(meta.dirty), two_primaries=self.options.two_primaries,
            discard=self.discard, stuck=self.frozen and self.new_id_due, first=self.first,
            exposed=self.exposed if self.role is Role.PRIMARY and self.disk is Disk.DISKLESS else 0)

    # Connections

    def connect(self, discard: bool = False) -> list[Effect]:
        """Begin to look for the peer."""
        if self.conn is not Conn.STANDALONE:
            raise Refused(10, "Failure: (102) Local address(port) already in use.")
        self.discard = discard
        return self._change(conn=Conn.WAITING)

    def meet(self, peer: Hello) -> list[Effect]:
        """Both told who they are: connect, resync, or part again [drbd_sync_handshake, receive_state]."""
        if peer.two_primaries != self.options.two_primaries:
            return self._part(Conn.STANDALONE)
        mine = self.hello()
        if mine.exposed not in (0, peer.current):  # "can only connect to data with current UUID" [receive_uuids]
            return self._part(Conn.STANDALONE)
        if peer.exposed not in (0, mine.current):
            return self._part(Conn.WAITING)
        diskless = Disk.DISKLESS in (self.disk, peer.disk)  # then there is nothing to compare, and nothing to resync
        winner = 0 if diskless else self._winner(mine, peer)
        if abs(winner) >= 100:
            alarm = [Effect.SPLIT_BRAIN] if abs(winner) == 100 else []
            return alarm + self._part(Conn.STANDALONE)
        if self.role is peer.role is Role.PRIMARY and not self.options.two_primaries:
            return self._part(Conn.WAITING if winner < 0 else Conn.STANDALONE)
        if _cannot_sync(winner, self.role, self.disk) or _cannot_sync(-winner, peer.role, peer.disk):
            return self._part(Conn.STANDALONE)
        if winner == 0 and (_may_have_lost(peer, mine) or _may_have_lost(mine, peer)):
            if mine.stuck:
                self._new_id()
                self.new_id_due = False
            return self._part(Conn.WAITING)
        return self._join(winner, peer)

    def _winner(self, mine: Hello, peer: Hello) -> int:
        winner = compare(mine, peer)
        primaries = (mine.role, peer.role).count(Role.PRIMARY)
        if winner == 100 and not primaries and self.options.after_sb_0pri == "discard-zero-changes":
            winner = (not peer.changes) - (not mine.changes) or 100
        if abs(winner) == 100 and mine.discard != peer.discard:
            winner = -1 if mine.discard else 1
        return winner

    def _part(self, conn: Conn) -> list[Effect]:
        """A refused handshake: what we believed of the peer's disk is gone nevertheless."""
        self.peer_disk = Disk.UNKNOWN
        effects = self._change(conn=conn, closed=True)
        return [Effect.CLOSE, *effects]

    def _join(self, winner: int, peer: Hello) -> list[Effect]:
        self.epoch += 1
        self.discard = False
        if self.disk is Disk.DISKLESS:
            self.exposed = peer.current
        meta = self.meta
        mine, theirs = _negotiated(self.disk), _negotiated(peer.disk)
        if winner > 0:
            unheard = peer.current == meta.history[0] and meta.bitmap == _sync_id(meta.current, peer.current)
            if not unheard:  # else the peer knows nothing of our last start [rule 51]
                meta.history = (meta.bitmap, meta.history[0]) if meta.bitmap else meta.history
                meta.bitmap = _sync_id(meta.current, meta.bitmap)
            bad = Disk.INCONSISTENT
            return self._change(conn=Conn.SOURCE, peer_role=peer.role, disk=mine, peer_disk=bad)
        if winner < 0:
            return [Effect.BEFORE_TARGET, *self._change(
                conn=Conn.TARGET, peer_role=peer.role, disk=Disk.INCONSISTENT, peer_disk=theirs)]
        self.crashed = False
        return self._change(conn=Conn.CONNECTED, peer_role=peer.role, disk=mine, peer_disk=theirs)

    def overwritten(self, identifier: int) -> list[Effect]:
        """The source began: our copy is one in between now [receive_sync_uuid]."""
        self.meta.current, self.meta.bitmap = identifier, 0
        return self._change()

    def synced(self, peer_current: int) -> list[Effect]:
        """The resync is finished; the source's identifier is now that of both [drbd_resync_finished]."""
        source, meta = self.conn is Conn.SOURCE, self.meta
        older = meta.bitmap if source else meta.current
        meta.current, meta.bitmap, meta.history = peer_current, 0, (older, meta.history[0])
        meta.dirty.clear()
        self.crashed = False
        if not source:
            return [Effect.AFTER_TARGET, *self._change(conn=Conn.CONNECTED, disk=Disk.UPTODATE)]
        unfence = [] if self.options.fencing is Fencing.DONT_CARE else [Effect.UNFENCE]
        return [*unfence, *self._change(conn=Conn.CONNECTED, peer_disk=Disk.UPTODATE)]

    def lost(self) -> list[Effect]:
        """The peer does not answer any more, or closed the connection."""
        return self._change(conn=Conn.WAITING, closed=True) if self.linked else []

    def peer_is(self, role: Role, disk: Disk, current: int = 0) -> list[Effect]:
        """The peer says what it is now; `current`: of which data it is [receive_uuids]."""
        if not self.linked:
            return []
        if self.disk is Disk.DISKLESS:
            self.exposed = current or self.exposed
        return self._change(peer_role=role, peer_disk=self.peer_disk if self.conn is Conn.SOURCE else disk)

    def disconnect(self) -> list[Effect]:
        """Part at once; the peer is to hear (or, by force, not to hear) of it from the world."""
        if self.conn is Conn.STANDALONE:
            raise Refused(10, "Failure: (162) Invalid configuration request\nunknown connection")
        return [Effect.CLOSE, *self._change(conn=Conn.STANDALONE, closed=True)]

    @property
    def leaves_a_primary(self) -> bool:
        """Would our copy be stale if we left now?"""
        secondary = self.role is Role.SECONDARY and self.peer_role is Role.PRIMARY
        return secondary and self.linked and self.options.fencing is not Fencing.DONT_CARE

    def part_gracefully(self, leaving: bool, stale: bool = False) -> list[Effect]:
        """Both agreed to part: a Secondary knows that its copy will be stale [conn_try_disconnect].

        `stale`: it was so when the peer was asked, which may have closed the connection since.
        """
        disk, peer_disk = self.disk, self.peer_disk
        if self.options.fencing is not Fencing.DONT_CARE and self.linked:
            if self.role is Role.PRIMARY:
                peer_disk = min(peer_disk, Disk.OUTDATED)
            elif self.peer_role is Role.PRIMARY:
                disk = min(disk, Disk.OUTDATED)
        disk = min(disk, Disk.OUTDATED) if stale else disk
        conn = Conn.STANDALONE if leaving else Conn.WAITING
        return [Effect.CLOSE, *self._change(conn=conn, disk=disk, peer_disk=peer_disk, closed=True)]

    # Roles

    def promote(self, force: bool = False) -> Generator[Step, object, list[Effect]]:
        """Become Primary [drbd_set_role]; raises Refused. No handshake may happen until it ends."""
        self.promoting = True
        try:
            return (yield from self._promote(force))
        finally:
            self.promoting = False

    def _promote(self, force: bool) -> Generator[Step, object, list[Effect]]:
        tries, disk = 0, self.disk
        refusal = Refused(11, "State change failed")
        while tries < TRIES:
            tries += 1
            refused = self._promotion(max(disk, self.disk) if self.peer_disk <= Disk.OUTDATED else self.disk)
            if refused is None:
                if not self.linked or (yield Step.ASK) is True:
                    return self._become_primary(max(disk, self.disk))
                refusal = Refused(11, "State change failed: (-10) State change was refused by peer node")
                continue
            refusal = refused
            if force and not self.linked and self.disk > Disk.DISKLESS:
                disk, self.peer_disk = Disk.UPTODATE, Disk.OUTDATED
            elif refused.code == 11 and self.linked:
                yield Step.WAIT
                tries = max(tries, TRIES - 1)
            elif refused.code == 11 or self.disk is Disk.CONSISTENT:
                if self._can_fence():
                    code = yield Step.FENCE
                    self.fence_answered(int(str(code)), self.epoch)
                    if self.peer_disk <= Disk.OUTDATED and self.disk is Disk.CONSISTENT:
                        disk = Disk.UPTODATE
            else:
                break
        raise refusal

    def _promotion(self, disk: Disk) -> Refused | None:
        """Why not [is_valid_state]."""
        if self.linked and self.peer_role is Role.PRIMARY and not self.options.two_primaries:
            return Refused(11, "State change failed: (-1) Multiple primaries not allowed by config")
        no_data = Refused(17, "State change failed: (-2) Need access to UpToDate data")
        if max(disk, self.peer_disk if self.linked else Disk.DISKLESS) < Disk.UPTODATE:
            return no_data
        fencing = self.options.fencing is not Fencing.DONT_CARE
        if fencing and not self.linked and self.peer_disk >= Disk.UNKNOWN:
            return Refused(11, "State change failed: (-7) Refusing to be Primary while peer is not outdated")
        return None

    def _become_primary(self, disk: Disk) -> list[Effect]:
        effects = self._change(role=Role.PRIMARY, disk=self.disk if self.linked else disk)
        if not self.linked and not self.meta.bitmap:
            self._new_id()
        return effects

    def consents(self) -> bool:
        """May the peer become Primary?"""
        busy = self.promoting or self.role is Role.PRIMARY
        return self.options.two_primaries or not busy

    def demote(self) -> list[Effect]:
        """Become Secondary."""
        if self.opens:
            raise Refused(11, "State change failed: (-12) Device is held open by someone")
        self.fenced_io = self.new_id_due = False
        return self._change(role=Role.SECONDARY)

    # Fencing

    def _can_fence(self) -> bool:
        return self.options.fencing is not Fencing.DONT_CARE and self.disk >= Disk.CONSISTENT

    def fence_answered(self, code: int, epoch: int) -> list[Effect]:
        """The fence-peer handler, called in that epoch, ended [conn_try_outdate_peer]."""
        if self.linked or epoch != self.epoch:
            return []
        if code == 6 and self.role is not Role.PRIMARY:
            return self._change(disk=min(self.disk, Disk.OUTDATED))
        if code == 3:
            return self._change(peer_disk=Disk.INCONSISTENT)
        if code in (4, 7) or (code == 5 and self.disk is Disk.UPTODATE):
            return self._change(peer_disk=Disk.OUTDATED)
        return []

    def outdate(self) -> list[Effect]:
        """Mark our copy stale; while connected it does nothing and says yes, as the kernel does."""
        if self.linked:
            return []
        if self.role is Role.PRIMARY:
            raise Refused(17, "State change failed: (-2) Need access to UpToDate data")
        if self.disk <= Disk.INCONSISTENT:
            raise Refused(5, "State change failed: (-13) Disk state is lower than outdated")
        return self._change(disk=Disk.OUTDATED)

    def resume_io(self) -> list[Effect]:
        """Thaw by hand."""
        if self.new_id_due:
            self._new_id()
        self.fenced_io = self.new_id_due = False
        return []

    # Data

    def write(self, block: int) -> None:
        """The guest wrote a block that the peer does not have."""
        self.meta.dirty.add(block)

    def disk_failed(self) -> list[Effect]:
        """The disk below fails: detach [on-io-error detach]."""
        self.exposed = self.meta.current
        return [Effect.IO_ERROR, *self._change(disk=Disk.DISKLESS)]

    def attach(self) -> list[Effect]:
        """The disk below is back: as good as it was known to be, or a target while the peer has good data."""
        if self.disk is not Disk.DISKLESS:
            raise Refused(10, "Failure: (124) Device is attached to a disk (use detach first)")
        if self.linked and self.peer_disk is Disk.UPTODATE:
            return self._change(conn=Conn.TARGET, disk=Disk.INCONSISTENT)
        return self._change(disk=attached(self.meta, self.options))

    def peer_attached(self) -> list[Effect]:
        """The peer's disk is back, and gets what it missed from ours."""
        self.meta.bitmap = self.meta.bitmap or _sync_id(self.meta.current, 0)
        return self._change(conn=Conn.SOURCE, peer_disk=Disk.INCONSISTENT)

    def spoil(self, disk: Disk) -> list[Effect]:
        """Declare our copy bad by hand."""
        return self._change(disk=disk)

    def skip_sync(self, identifier: int) -> list[Effect]:
        """Both copies are declared good [new-current-uuid --clear-bitmap]."""
        if not self.linked or (self.disk, self.peer_disk) != (Disk.INCONSISTENT, Disk.INCONSISTENT):
            raise Refused(10, "Failure: (151) Need to be StandAlone")
        self.meta.current, self.meta.bitmap = identifier, 0
        self.meta.dirty.clear()
        return self._change(disk=Disk.UPTODATE, peer_disk=Disk.UPTODATE)

    # Every change goes through here

    def _change(self, *, role: Role | None = None, conn: Conn | None = None,
                disk: Disk | None = None, peer_role: Role | None = None,
                peer_disk: Disk | None = None, closed: bool = False) -> list[Effect]:
        was_primary, had = self.role is Role.PRIMARY, self.peer_disk
        self.role, self.conn = role or self.role, conn or self.conn
        self.disk = self.disk if disk is None else disk
        self.peer_role = peer_role or self.peer_role
        self.peer_disk = self.peer_disk if peer_disk is None else peer_disk
        self._sanitize()
        self._after(had)
        self._save()
        alone = closed and was_primary and not self.linked and self.peer_disk >= Disk.UNKNOWN
        return [Effect.FENCE] if alone and self._can_fence() else []

    def _sanitize(self) -> None:
        """[sanitize_state]"""
        if self.linked:
            return
        self.peer_role = Role.UNKNOWN
        if self.peer_disk > Disk.UNKNOWN or self.peer_disk < Disk.INCONSISTENT:
            self.peer_disk = Disk.UNKNOWN
        stonith = self.options.fencing is Fencing.STONITH
        if stonith and self.role is Role.PRIMARY and self.peer_disk > Disk.OUTDATED:
            self.fenced_io = True

    def _after(self, had: Disk) -> None:
        """[after_state_ch, w_after_conn_state_ch]"""
        lost_copy = _has_data(had) and not _has_data(self.peer_disk)
        written = Role.PRIMARY in (self.role, self.peer_role)
        if lost_copy and written and not self.meta.bitmap and self.disk is Disk.UPTODATE:
            if self.fenced_io:
                self.new_id_due = True
            else:
                self._new_id()
        if self.fenced_io and (self.linked or self.peer_disk <= Disk.OUTDATED):
            if self.new_id_due and not self.linked:
                self._new_id()
            self.fenced_io = self.new_id_due = False

    def _new_id(self) -> None:
        """[drbd_uuid_new_current]"""
        meta = self.meta
        if meta.bitmap:
            meta.history = (meta.bitmap, meta.history[0])
        meta.current, meta.bitmap = self.fresh(), meta.current

    def _save(self) -> None:
        meta = self.meta
        meta.primary = self.role is Role.PRIMARY or self.crashed
        if self.disk is not Disk.DISKLESS:
            meta.consistent, meta.up_to_date = self.disk > Disk.INCONSISTENT, self.disk > Disk.OUTDATED
        meta.peer_outdated = Disk.INCONSISTENT <= self.peer_disk <= Disk.OUTDATED


def attached(meta: Meta, options: Options) -> Disk:
    """How good a copy is, as far as it can tell without its peer."""
    if not meta.consistent:
        return Disk.INCONSISTENT
    if not meta.up_to_date:
        return Disk.OUTDATED
    sure = options.fencing is Fencing.DONT_CARE or meta.peer_outdated
    return Disk.UPTODATE if sure else Disk.CONSISTENT


def _cannot_sync(winner: int, role: Role, disk: Disk) -> bool:
    """A source must have data; a target must not be in use."""
    if winner > 0:
        return disk <= Disk.INCONSISTENT
    return winner < 0 and role is Role.PRIMARY and disk >= Disk.CONSISTENT


def _may_have_lost(node: Hello, peer: Hello) -> bool:
    """A peer that rebooted may have lost what was on its way: what is frozen cannot just be sent again."""
    return peer.stuck and node.disk is Disk.CONSISTENT


def _negotiated(disk: Disk) -> Disk:
    """While connected nobody is only Consistent or Outdated: they agreed."""
    return Disk.UPTODATE if disk in (Disk.CONSISTENT, Disk.OUTDATED) else disk


def _has_data(disk: Disk) -> bool:
    return disk in (Disk.INCONSISTENT, Disk.CONSISTENT, Disk.UPTODATE)


def _sync_id(current: int, bitmap: int) -> int:
    """The identifier of a copy that is being overwritten [drbd_gen_and_send_sync_uuid]."""
    return (bitmap or current) + (1 << 48)


def outdated(meta: Meta) -> Meta:
    """The meta-data of a resource that is down, marked stale."""
    if not meta.consistent:
        raise Refused(5, "State change failed: (-13) Disk state is lower than outdated")
    return replace(meta, up_to_date=False)
