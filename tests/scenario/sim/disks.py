"""DRBD between the two simulated machines: the rules of the stand-in's model, in virtual time.

What is written is known by number, and every number knows which one it replaced: so an acknowledged write that is
missing under a later one is seen at once.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kisscluster.decide.words import Drbd
from tests.lab.standin.model import (
    Conn,
    Disk,
    Effect,
    Fencing,
    Meta,
    Options,
    Refused,
    Resource,
    Role,
    Step,
    attached,
    compare,
    outdated,
)
from tests.scenario.language import NODES
from tests.scenario.sim.clock import Clock, Life, Task, Timer

OPTIONS = Options(Fencing.STONITH, False, "discard-zero-changes", True)
GARBAGE = -1  # the content of a copy that is half overwritten


@dataclass
class Pace:
    """How long things take, in seconds; a search draws them."""

    notice: tuple[float, float] = (1.6, 1.6)  # until a kernel notices that its peer is gone (FACTS 1.5)
    seek: tuple[float, float] = (0.5, 0.5)
    resync: float = 1.0
    message: float = 0.0005


@dataclass
class History:
    """Which write replaced which, and the last one that a guest was told is on disk."""

    parents: dict[int, int] = field(default_factory=dict)
    acknowledged: int = 0
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def contains(self, content: int, write: int) -> bool:
        """Does a copy that holds this content have that write?"""
        while content > write:
            content = self.parents.get(content, GARBAGE)
        return content == write


class Side:
    """One node's half of a VM's mirrored disk."""

    def __init__(self, mirror: Mirror, node: str) -> None:
        self.mirror, self.node = mirror, node
        self.meta = Meta(current=0x1000, consistent=True, up_to_date=True)
        self.content = 0
        self.outdated = -99.0  # when it last was
        self.broken = False  # the disk below answers with errors
        self.released = False  # it was frozen, and a handler's answer let the writes go
        self.state: Resource | None = None
        self.life: Life | None = None
        self.linked_to: Side | None = None
        self.connection = object()
        self.outbox: deque[tuple[object, float, Callable[[Side], object]]] = deque()
        self.noticing: Timer | None = None
        self.waiting: list[Callable[[], object]] = []
        self.unacknowledged: dict[int, Callable[[bool], object]] = {}
        self.asking: Task | None = None
        self.told: tuple[Role, Disk, int] | None = None

    @property
    def peer(self) -> Side:
        return self.mirror.sides[NODES[1 - NODES.index(self.node)]]

    # What can be seen

    def word(self) -> Drbd | None:
        """As /proc/drbd has it; None while the resource is not up."""
        if self.state is None:
            return None
        state = self.state
        return Drbd(str(state.conn), str(state.role), str(state.peer_role), str(state.disk), str(state.peer_disk),
                    state.frozen)

    # Up and down

    def up(self, life: Life) -> None:
        """Attach, and look for the peer."""
        self.life = life
        self.state = Resource(self.meta, OPTIONS, self.mirror.fresh, self.node == NODES[0])
        if self.broken:
            self.state.disk_failed()
            self.settle()
        else:
            self.settle(self.state.connect())
        self._seek()

    def gone(self) -> None:
        """The machine's power is off: what was on its way is lost."""
        if self.state is None:
            return
        if self.linked_to and self.linked_to.state and self.linked_to.state.disk is Disk.DISKLESS:
            # a peer without a disk is told of a new identifier as soon as there is one, not a slow message later
            self.linked_to.state.exposed = self.state.meta.current
        self.state = self.life = None
        self.waiting.clear()
        self.unacknowledged.clear()
        self.asking = None
        self._hang_up()

    def _seek(self) -> None:
        if self.state is None or self.life is None:
            return
        if self.state.conn is Conn.WAITING and NODES[0] == self.node:
            self.mirror.meet()
        self.mirror.clock.after(self.mirror.rng.uniform(*self.mirror.pace.seek), self.life, self._seek)

    # After every change

    def settle(self, effects: list[Effect] | None = None) -> None:
        """Make the world agree with the state."""
        for effect in effects or []:
            self._carry_out(effect)
        state = self.state
        if state is None:
            return
        if state.disk is Disk.OUTDATED:
            self.outdated = self.mirror.clock.now
        told = (state.role, state.disk, state.meta.current)
        if self.linked_to and told != self.told:
            self.told = told
            self._send(lambda peer: peer._peer_is(*told))
        self._let_go()
        self.mirror.changed(self)

    def _peer_is(self, role: Role, disk: Disk, current: int) -> None:
        if self.state:
            self.settle(self.state.peer_is(role, disk, current))

    def _carry_out(self, effect: Effect) -> None:
        assert self.state and self.life
        if effect is Effect.CLOSE:
            self._hang_up()
        elif effect is Effect.FENCE:
            epoch = self.state.epoch
            self.mirror.handler(self, "fence-peer", lambda code: self._answered(code, epoch))
        elif effect is Effect.BEFORE_TARGET:
            self.mirror.handler(self, effect, self._may_be_target)
        else:
            self.mirror.handler(self, effect, lambda code: None)

    def _answered(self, code: int, epoch: int) -> None:
        if self.state:
            was_frozen = self.state.frozen
            effects = self.state.fence_answered(code, epoch)
            self.released = self.released or was_frozen and not self.state.frozen and not self.state.linked
            self.settle(effects)

    def _may_be_target(self, code: int) -> None:
        """A handler that refuses drops the connection before a block is overwritten; the copy counts as Outdated."""
        if code and self.state and self.state.conn is Conn.TARGET:
            self.state.disk = Disk.OUTDATED
            self.settle(self.state.disconnect())

    def _let_go(self) -> None:
        state = self.state
        if state is None or state.frozen:
            return
        if not state.replicating and self.unacknowledged:
            writes, self.unacknowledged = self.unacknowledged, {}
            for number, done in writes.items():
                if self.content != number and state.disk is not Disk.DISKLESS:  # it was on its way to the peer alone
                    self.mirror.history.parents[number] = self.content
                    self.content = number
                state.write(0)
                done(True)
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action()

    # The peer

    def _send(self, take: Callable[[Side], object]) -> None:
        """A message on the connection, in order; a hole in the path delays it, the end of the connection loses it."""
        if self.linked_to is None:
            return
        due = self.mirror.clock.now + self.mirror.pace.message + self.mirror.late()
        self.outbox.append((self.connection, due, take))
        self.mirror.clock.after(due - self.mirror.clock.now, None, self._deliver)

    def _deliver(self) -> None:
        """What is due arrives, as long as both ends hold this connection."""
        clock = self.mirror.clock
        while self.outbox:
            connection, due, take = self.outbox[0]
            link = self.linked_to
            if link is None or connection is not self.connection or connection is not link.connection:
                self.outbox.popleft()
            elif due > clock.now:
                return
            elif not self.mirror.path() or link.life is None or link.life.hung:
                clock.after(0.05, None, self._deliver)
                return
            else:
                self.outbox.popleft()
                take(link)

    def joined(self, peer: Side, connection: object) -> None:
        """The handshake went well on both sides."""
        self.linked_to, self.connection, self.told, self.released = peer, connection, None, False
        for number in list(self.unacknowledged):
            self._replicate(number)

    def begin_sync(self) -> None:
        """The target's data are worth nothing until the end."""
        peer = self.linked_to
        if peer is None or self.state is None or self.state.conn is not Conn.SOURCE:
            return
        if peer.state is None or peer.state.conn is not Conn.TARGET:
            return  # it refused
        peer.content = GARBAGE
        peer.settle(peer.state.overwritten(self.state.meta.bitmap))
        self.mirror.clock.after(self.mirror.pace.resync, self.life, self._finish_sync, peer)

    def _finish_sync(self, peer: Side) -> None:
        if self.linked_to is not peer or self.state is None or self.state.conn is not Conn.SOURCE:
            return
        current = self.state.meta.current
        self._send(lambda target: target.synced(self.content, current))

    def synced(self, content: int, current: int) -> None:
        """The target has everything; the source hears of it a moment later."""
        if self.state is None or self.state.conn is not Conn.TARGET:
            return
        self.content = max(content, *self.unacknowledged, 0)  # a primary's own writes are on their way to the source
        self._send(Side._source_done)
        self.settle(self.state.synced(current))

    def _source_done(self) -> None:
        if self.state and self.state.conn is Conn.SOURCE:
            self.settle(self.state.synced(self.state.meta.current))

    def recheck(self) -> None:
        """Is the peer still there? If not, the kernel will notice."""
        peer = self.linked_to
        closed = peer is not None and peer.linked_to is not self
        away = peer is not None and (not self.mirror.path() or closed or peer.life is None or peer.life.hung)
        if not away:
            if self.noticing:
                self.noticing.cancel()
            self.noticing = None
        elif self.noticing is None:
            soon = closed and self.mirror.path() and peer is not None and peer.life is not None
            seconds = 0.01 if soon else self.mirror.rng.uniform(*self.mirror.pace.notice)
            self.noticing = self.mirror.clock.after(seconds, self.life, self._noticed)

    def _noticed(self) -> None:
        self.noticing = None
        if self.state and self.linked_to:
            self._hang_up()
            self.settle(self.state.lost())

    def _hang_up(self) -> None:
        peer, self.linked_to = self.linked_to, None
        self.connection = object()  # what is still on its way comes too late
        if self.noticing:
            self.noticing.cancel()
            self.noticing = None
        if self.asking:
            self._answer(None)
        if peer:
            peer.recheck()

    # Roles

    def ask(self, what: str) -> bool | None:
        """Ask the peer for its consent; None where it is lost meanwhile. Called by a process."""
        if self.linked_to is None:
            return None
        self.asking = self.mirror.current()

        def arrived(peer: Side) -> None:
            if peer.state:
                yes = what == "part" or peer.state.consents()
                peer._send(lambda asker: asker._answer(yes))
                if what == "part":  # after its answer has arrived
                    self.mirror.clock.after(3 * self.mirror.pace.message, peer.life, peer._part)
        self._send(arrived)
        answer = self.mirror.clock.wait()
        return None if answer is None else bool(answer)

    def _part(self) -> None:
        if self.state and self.state.linked:
            self.settle(self.state.part_gracefully(leaving=False))

    def _answer(self, yes: bool | None) -> None:
        asking, self.asking = self.asking, None
        if asking:
            self.mirror.clock.after(0, asking.life, asking.resume, yes)

    def promote(self, force: bool) -> None:
        """`drbdadm primary`, to its end; raises Refused. Called by a process."""
        state = self.need()
        if state.role is Role.PRIMARY:
            return
        steps, answer, effects = state.promote(force), None, None
        try:
            while True:
                answer = self._step(steps.send(answer))
                self.settle()
        except StopIteration as done:
            effects = done.value
        finally:
            steps.close()
            self.settle(effects)

    def _step(self, step: Step) -> Any:
        if step is Step.ASK:
            return self.ask("primary")
        if step is Step.WAIT:
            self.mirror.clock.sleep(0.6)
            return None
        task = self.mirror.current()
        self.mirror.handler(self, "fence-peer", lambda code: self.mirror.clock.after(0, task.life, task.resume, code))
        return self.mirror.clock.wait()

    def need(self) -> Resource:
        """The resource, or what drbdadm says where it is not up."""
        if self.state is None:
            raise Refused(10, f"{self.mirror.name}: Failure: (158) Unknown resource")
        return self.state

    def outdate(self) -> None:
        """`drbdadm outdate`, also on the meta-data of what is down."""
        if self.state is None:
            self.meta = outdated(self.meta)
        else:
            self.settle(self.state.outdate())

    def adjust(self, life: Life) -> None:
        """`drbdadm adjust`: up, and connected or looking for the peer; it attaches first, and where that fails ends."""
        fresh = self.state is None
        if fresh:
            self.up(life)
        if self.broken and self.need().disk is Disk.DISKLESS:
            raise Refused(1, "pread(5,...) in v08_md_disk_to_cpu failed: Input/output error")
        if fresh or self.state is None:
            return
        if not self.state.role is self.state.peer_role is Role.PRIMARY:
            self.state.options = OPTIONS
        if self.state.conn is Conn.STANDALONE:
            self.settle(self.state.connect())
        if not self.broken:
            self.reattach()

    def allow_two_primaries(self, allowed: bool) -> None:
        """`drbdadm net-options --allow-two-primaries=`, which the kernel tells its peer."""
        state = self.need()
        both = state.role is state.peer_role is Role.PRIMARY
        if state.conn is Conn.STANDALONE or both and not allowed:
            raise Refused(10, "Failure: (164) allow-two-primaries is needed or no network configured")
        self.two_primaries(allowed)
        self._send(lambda peer: peer.two_primaries(allowed))

    def two_primaries(self, allowed: bool) -> None:
        if self.state:
            self.state.options = replace(OPTIONS, two_primaries=allowed)

    def fail(self) -> None:
        """The disk below fails: detached; a resync to or from it is over."""
        assert self.state
        if self.state.conn in (Conn.SOURCE, Conn.TARGET):
            self.state.conn = Conn.CONNECTED
            self._send(lambda peer: peer.no_more_sync())
        self.settle(self.state.disk_failed())

    def no_more_sync(self) -> None:
        """The other disk is gone in the middle of a resync."""
        if self.state and self.state.conn in (Conn.SOURCE, Conn.TARGET):
            self.state.conn = Conn.CONNECTED
            self.settle()

    def reattach(self) -> None:
        """The disk below is there again [drbd_adm_attach]: its meta-data say how old it is, a living peer mends it."""
        state, peer = self.state, self.linked_to
        if state is None or state.disk is not Disk.DISKLESS:
            return
        if peer and (peer.linked_to is not self or peer.state and peer.state.peer_disk is not Disk.DISKLESS):
            return  # the word that it failed, or that the connection ended, is still on its way
        alone = peer is None or peer.state is None or not state.linked or peer.state.disk is Disk.DISKLESS
        if state.role is Role.PRIMARY and alone:
            if state.exposed != self.meta.current:
                return  # "can only attach to data with current UUID": the guest wrote over there meanwhile
            state.disk = Disk.UPTODATE
        elif alone or peer is None or peer.state is None:
            state.disk = attached(self.meta, OPTIONS)
        elif compare(state.hello(), peer.state.hello()) and self._refuses():
            state.disk = attached(self.meta, OPTIONS)
            self.settle(state.disconnect())
            return
        elif compare(state.hello(), peer.state.hello()):
            state.conn, state.disk = Conn.TARGET, Disk.INCONSISTENT
            peer.state.peer_attached()
            peer.settle()
            peer.begin_sync()
        else:
            state.disk = Disk.UPTODATE
        self.settle()

    def _refuses(self) -> bool:
        """Does the handler refuse this copy to be overwritten, as for every other resync [drbd_start_resync]?"""
        codes: list[int] = []
        self.mirror.handler(self, Effect.BEFORE_TARGET, codes.append)
        return any(codes)

    # Data

    def write(self, done: Callable[[bool], object]) -> None:
        """The guest writes; done when its data are where they must be."""
        state = self.state
        if state is None or state.role is not Role.PRIMARY:
            done(False)
        elif state.frozen:
            self.waiting.append(lambda: self.write(done))
        else:
            self._write(state, done)

    def _write(self, state: Resource, done: Callable[[bool], object]) -> None:
        history = self.mirror.history
        number = next(history.numbers)
        good = state.disk not in (Disk.DISKLESS, Disk.INCONSISTENT)
        where = self if good or not self.linked_to else self.linked_to
        history.parents[number] = where.content
        if good:
            self.content = number

        def answered(good: bool) -> None:
            if good:
                self.mirror.acknowledge(self, number)
            done(good)
        self.unacknowledged[number] = answered
        if state.replicating:
            self._replicate(number)
        else:
            self._let_go()

    def _replicate(self, number: int) -> None:
        def arrived(peer: Side) -> None:
            if peer.state and peer.state.disk is not Disk.DISKLESS and peer.content != GARBAGE:
                peer.content = number
                if peer.state.peer_disk is Disk.DISKLESS:
                    peer.state.write(0)
            peer._send(lambda writer: writer._written(number))
        self._send(arrived)

    def _written(self, number: int) -> None:
        done = self.unacknowledged.pop(number, None)
        if done:
            done(True)


class Mirror:
    """One VM's disk on both nodes."""

    def __init__(self, name: str, clock: Clock, rng: random.Random, pace: Pace, path: Callable[[], bool],
                 current: Callable[[], Task]) -> None:
        self.name, self.clock, self.rng, self.pace, self.path, self.current = name, clock, rng, pace, path, current
        self.history = History()
        self._identifiers = itertools.count(0x2000, 2)
        self.changed: Callable[[Side], None] = lambda side: None
        self.handler: Callable[[Side, str, Callable[[int], object]], None] = lambda side, name, done: None
        self.late: Callable[[], float] = lambda: 0.0  # what the storage network adds to a message's way
        self.acknowledged: Callable[[Side, int, bool], None] = lambda side, number, good: None
        self.sides = {node: Side(self, node) for node in NODES}

    def fresh(self) -> int:
        """A new generation identifier."""
        return next(self._identifiers)

    def acknowledge(self, side: Side, number: int) -> None:
        """The guest is told that this write is on disk."""
        good = self.history.contains(number, self.history.acknowledged)
        self.history.acknowledged = max(self.history.acknowledged, number) if good else number
        self.acknowledged(side, number, good)

    def recheck(self) -> None:
        """The network or a machine changed."""
        for side in self.sides.values():
            if side.state:
                side.recheck()

    def meet(self) -> None:
        """Both look for each other: the handshake, where nothing is in its way."""
        one, two = self.sides.values()
        for side in (one, two):
            if side.state is None or side.life is None or side.life.hung or side.state.promoting:
                return
            if side.state.conn is not Conn.WAITING:
                return
        if not self.path():
            return
        assert one.state and two.state
        hellos = one.state.hello(), two.state.hello()
        effects = one.state.meet(hellos[1]), two.state.meet(hellos[0])
        if one.state.linked and two.state.linked:
            connection = object()
            one.joined(two, connection)
            two.joined(one, connection)
        for side, effect in zip((one, two), effects, strict=True):
            side.settle(effect)
        for side in (one, two):
            if side.state and side.state.linked and side.linked_to is None:
                side.settle(side.state.lost())
            side.begin_sync()
