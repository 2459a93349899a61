"""The stand-in's rules, each against what the real kernel did (FACTS 0, 1.2, 1.4)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.lab.standin.model import (
    JUST_CREATED,
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
)

STONITH = Options(fencing=Fencing.STONITH, after_sb_0pri="discard-zero-changes")
GOOD = {"current": 0x100, "consistent": True, "up_to_date": True}


class World:
    """Two nodes and a wire: what they say to each other arrives at once, or not at all."""

    def __init__(self, options: Options = STONITH, **meta: object) -> None:
        identifiers: Iterator[int] = count(0x1000, 2)
        self.options, self.fresh = options, lambda: next(identifiers)
        self.metas = [Meta(**{**GOOD, **meta}) for _ in range(2)]  # type: ignore[arg-type]
        self.nodes = [self.attach(0), self.attach(1)]
        self.effects: list[list[Effect]] = [[], []]

    def attach(self, node: int) -> Resource:
        """A node boots."""
        return Resource(self.metas[node], self.options, self.fresh, first=node == 0)

    def reboot(self, node: int) -> Resource:
        """A node loses power, the other sees it, and it comes back without a connection."""
        self.lose()
        self.nodes[node] = self.attach(node)
        return self.nodes[node]

    def connect(self) -> None:
        """Both look for each other, and meet."""
        for node in self.nodes:
            if node.conn is Conn.STANDALONE:
                node.connect()
        hellos = [node.hello() for node in self.nodes]
        self.effects = [self.nodes[0].meet(hellos[1]), self.nodes[1].meet(hellos[0])]
        linked = [node.linked for node in self.nodes]
        for node, peer in zip(self.nodes, reversed(linked), strict=True):
            if not peer:
                node.lost()
        for source, target in (self.nodes, self.nodes[::-1]):
            if source.conn is Conn.SOURCE and target.conn is Conn.TARGET:
                target.overwritten(source.meta.bitmap)

    def half_connect(self, node: int) -> None:
        """Both say hello, the answer comes too late for one of them."""
        self.nodes[node].meet(self.nodes[1 - node].hello())
        self.nodes[node].lost()

    def sync(self) -> list[list[Effect]]:
        """The resync ends."""
        source = next(node for node in self.nodes if node.conn is Conn.SOURCE)
        return [node.synced(source.meta.current) for node in self.nodes]

    def lose(self) -> None:
        """The wire is cut, and both notice."""
        self.effects = [node.lost() for node in self.nodes]

    def promote(self, node: int, code: int = 1, force: bool = False) -> int:
        """drbdadm primary; its exit code."""
        mine, peer = self.nodes[node], self.nodes[1 - node]
        steps = mine.promote(force)
        answer: object = None
        try:
            while True:
                step = steps.send(answer)
                answer = {Step.FENCE: code, Step.ASK: peer.consents(), Step.WAIT: None}[step]
        except Refused as refused:
            return refused.code
        except StopIteration:
            peer.peer_is(mine.role, mine.disk)
            return 0

    def show(self) -> list[str]:
        """Both lines of /proc/drbd, without what is always the same."""
        return [node.proc_line(10)[7:].replace(" C ", " ").removesuffix("-----") for node in self.nodes]


@pytest.fixture
def world() -> World:
    """Two connected Secondaries."""
    world = World()
    world.connect()
    return world


def test_connected(world: World) -> None:
    assert world.show() == ["Connected ro:Secondary/Secondary ds:UpToDate/UpToDate r"] * 2


def test_second_primary_is_refused(world: World) -> None:
    assert world.promote(0) == 0
    assert world.promote(0) == 0
    assert world.promote(1) == 11


def test_two_primaries_when_allowed() -> None:
    world = World(Options(two_primaries=True))
    world.connect()
    assert [world.promote(0), world.promote(1)] == [0, 0]


def test_outdate_while_connected_does_nothing(world: World) -> None:
    world.nodes[1].outdate()
    assert world.nodes[1].disk is Disk.UPTODATE


def test_outdate(world: World) -> None:
    world.lose()
    world.nodes[1].outdate()
    assert world.nodes[1].disk is Disk.OUTDATED
    assert world.promote(1, code=5) == 17


def test_outdate_refused_by_a_primary(world: World) -> None:
    world.promote(0)
    world.lose()
    with pytest.raises(Refused) as refused:
        world.nodes[0].outdate()
    assert refused.value.code == 17


def test_outdate_of_an_inconsistent_copy() -> None:
    with pytest.raises(Refused) as refused:
        World(consistent=False).nodes[0].outdate()
    assert refused.value.code == 5


def test_primary_freezes_when_its_peer_is_lost(world: World) -> None:
    world.promote(0)
    world.lose()
    assert world.effects == [[Effect.FENCE], []]
    assert world.show() == ["WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown s",
                            "WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown r"]


@pytest.mark.parametrize(("code", "peer"), [(3, "Inconsistent"), (4, "Outdated"), (5, "Outdated"), (7, "Outdated")])
def test_handler_releases(world: World, code: int, peer: str) -> None:
    world.promote(0)
    world.lose()
    before = world.nodes[0].meta.current
    world.nodes[0].fence_answered(code, world.nodes[0].epoch)
    assert world.show()[0] == f"WFConnection ro:Primary/Unknown ds:UpToDate/{peer} r"
    assert world.nodes[0].meta.bitmap == before != world.nodes[0].meta.current


@pytest.mark.parametrize("code", [0, 1, 2, 6, 20])
def test_handler_that_does_not_release(world: World, code: int) -> None:
    world.promote(0)
    world.lose()
    world.nodes[0].fence_answered(code, world.nodes[0].epoch)
    assert world.nodes[0].frozen


def test_late_answer_is_ignored(world: World) -> None:
    world.promote(0)
    world.lose()
    epoch = world.nodes[0].epoch
    world.connect()
    world.nodes[0].fence_answered(5, epoch)
    assert world.show()[0] == "Connected ro:Primary/Secondary ds:UpToDate/UpToDate r"
    assert world.nodes[0].meta.bitmap == 0, "requests are sent again: no new identifier"


def test_disconnect_and_connect_call_the_handler_again(world: World) -> None:
    world.promote(0)
    world.lose()
    assert Effect.FENCE in world.nodes[0].disconnect()
    assert world.nodes[0].frozen
    world.nodes[0].connect()
    assert world.nodes[0].frozen


@pytest.mark.parametrize(("code", "status", "disk"), [
    (3, 0, Disk.UPTODATE), (4, 0, Disk.UPTODATE), (5, 0, Disk.UPTODATE), (7, 0, Disk.UPTODATE),
    (6, 17, Disk.OUTDATED), (1, 11, Disk.UPTODATE), (0, 11, Disk.UPTODATE)])
def test_promotion_of_an_uptodate_copy(world: World, code: int, status: int, disk: Disk) -> None:
    world.lose()
    assert world.promote(1, code) == status
    assert world.nodes[1].disk is disk


@pytest.mark.parametrize(("code", "status", "disk"), [
    (3, 0, Disk.UPTODATE), (4, 0, Disk.UPTODATE), (7, 0, Disk.UPTODATE), (5, 17, Disk.CONSISTENT),
    (6, 17, Disk.OUTDATED), (1, 17, Disk.CONSISTENT)])
def test_promotion_of_a_consistent_copy(world: World, code: int, status: int, disk: Disk) -> None:
    assert world.reboot(1).disk is Disk.CONSISTENT
    assert world.promote(1, code) == status
    assert world.nodes[1].disk is disk


def test_promotion_without_a_handler() -> None:
    world = World(Options())
    assert world.nodes[0].disk is Disk.UPTODATE
    assert world.promote(0) == 0


@pytest.mark.parametrize(("meta", "disk"), [({"consistent": False}, Disk.INCONSISTENT),
                                            ({"up_to_date": False}, Disk.OUTDATED)])
def test_bad_copies_are_not_promoted(meta: dict[str, bool], disk: Disk) -> None:
    world = World(STONITH, **meta)
    assert world.nodes[0].disk is disk
    assert world.promote(0, code=7) == 17
    assert world.promote(0, force=True) == 0


def test_handler_is_called_up_to_four_times(world: World) -> None:
    world.lose()
    steps, calls = world.nodes[0].promote(), 0
    with pytest.raises(Refused):
        step = next(steps)
        while True:
            assert step is Step.FENCE
            calls += 1
            step = steps.send(1)
    assert calls == 4


def test_first_try_after_a_crash_answers_11(world: World) -> None:
    """The tries are used up by the wait for the dead Primary; the next call finds the peer fenced."""
    world.promote(0)
    survivor = world.nodes[1]
    steps = survivor.promote()
    assert next(steps) is Step.WAIT
    survivor.lost()
    assert steps.send(None) is Step.FENCE
    with pytest.raises(Refused) as refused:
        steps.send(5)
    assert refused.value.code == 11
    assert survivor.peer_disk is Disk.OUTDATED
    assert world.promote(1) == 0


def test_peer_outdated_survives_a_reboot(world: World) -> None:
    world.promote(0)
    world.lose()
    world.nodes[0].fence_answered(7, world.nodes[0].epoch)
    again = world.reboot(0)
    assert (again.disk, again.peer_disk) == (Disk.UPTODATE, Disk.OUTDATED)
    assert world.promote(0, code=1) == 0


def test_overtaken_primary(world: World) -> None:
    """Paused, overtaken, resumed: refused, no split brain, and the promoted one forgets whom it outdated."""
    world.promote(0)
    world.nodes[1].lost()
    assert world.promote(1, code=5) == 0
    world.nodes[0].lost()
    world.connect()
    assert not any(Effect.SPLIT_BRAIN in effects for effects in world.effects)
    assert Effect.FENCE in world.effects[1]
    assert world.nodes[1].conn is Conn.STANDALONE
    assert (world.nodes[1].peer_disk, world.metas[1].peer_outdated) == (Disk.UNKNOWN, False)
    assert world.nodes[0].frozen
    world.reboot(0)
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.TARGET, Conn.SOURCE]
    world.sync()
    assert world.show() == ["Connected ro:Secondary/Primary ds:UpToDate/UpToDate r",
                            "Connected ro:Primary/Secondary ds:UpToDate/UpToDate r"]


def test_resync_direction_and_handlers(world: World) -> None:
    world.promote(0)
    world.lose()
    world.nodes[0].fence_answered(4, world.nodes[0].epoch)
    world.nodes[0].write(7)
    world.connect()
    assert world.show() == ["SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent r",
                            "SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate r"]
    assert world.effects[1] == [Effect.BEFORE_TARGET]
    assert world.sync() == [[Effect.UNFENCE], [Effect.AFTER_TARGET]]
    assert world.metas[0].current == world.metas[1].current
    assert world.show()[0] == "Connected ro:Primary/Secondary ds:UpToDate/UpToDate r"


def test_interrupted_resync_goes_on_in_the_same_direction(world: World) -> None:
    world.promote(0)
    world.lose()
    world.nodes[0].fence_answered(4, world.nodes[0].epoch)
    world.connect()
    world.lose()
    assert world.show() == ["WFConnection ro:Primary/Unknown ds:UpToDate/Inconsistent r",
                            "WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown r"]
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.SOURCE, Conn.TARGET]


@pytest.mark.parametrize("half", [0, 1])
def test_a_resync_that_only_one_side_saw_begin_begins_again(world: World, half: int) -> None:
    world.promote(0)
    world.lose()
    world.nodes[0].fence_answered(4, world.nodes[0].epoch)
    for _ in range(3):
        for _ in range(3):
            world.half_connect(half)
        world.connect()
        assert [node.conn for node in world.nodes] == [Conn.SOURCE, Conn.TARGET]
        world.lose()


def test_source_that_missed_the_end_of_the_resync(world: World) -> None:
    """The target was promoted elsewhere; a running Primary refuses to be its target."""
    world.promote(0)
    world.lose()
    world.nodes[0].fence_answered(4, world.nodes[0].epoch)
    world.connect()
    world.nodes[1].synced(world.metas[0].current)
    world.lose()
    assert world.promote(1, code=7) == 0
    world.nodes[1].demote()
    world.connect()
    assert world.nodes[0].conn is Conn.STANDALONE


def test_crashed_primary_is_the_source_for_a_peer_that_was_not_promoted(world: World) -> None:
    world.promote(0)
    world.reboot(0)
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.SOURCE, Conn.TARGET]


def test_crash_of_both(world: World) -> None:
    world.reboot(0)
    world.reboot(1)
    world.connect()
    assert world.show() == ["Connected ro:Secondary/Secondary ds:UpToDate/UpToDate r"] * 2


def test_split_brain(world: World) -> None:
    world.lose()
    for node in (0, 1):
        assert world.promote(node, code=5) == 0
        world.nodes[node].write(node)
        world.nodes[node].demote()
    world.connect()
    assert all(Effect.SPLIT_BRAIN in effects for effects in world.effects)
    assert [node.conn for node in world.nodes] == [Conn.STANDALONE] * 2
    world.nodes[0].connect(discard=True)
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.TARGET, Conn.SOURCE]


def test_zero_changes_are_discarded(world: World) -> None:
    world.lose()
    for node in (0, 1):
        assert world.promote(node, code=5) == 0
        world.nodes[node].demote()
    world.nodes[1].write(3)
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.TARGET, Conn.SOURCE]


def test_unrelated_data(world: World) -> None:
    world.lose()
    world.metas[0].current = 0x9999
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.STANDALONE] * 2


def test_different_two_primaries_settings(world: World) -> None:
    world.lose()
    world.nodes[0].options = Options(Fencing.STONITH, two_primaries=True)
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.STANDALONE] * 2


def test_frozen_primary_meets_a_rebooted_peer(world: World) -> None:
    """What was on its way cannot just be sent again: part, then resync."""
    world.promote(0)
    world.reboot(1)
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.WAITING] * 2
    world.connect()
    assert [node.conn for node in world.nodes] == [Conn.SOURCE, Conn.TARGET]
    assert not world.nodes[0].frozen


@pytest.mark.parametrize("leaver", [0, 1])
def test_graceful_disconnect_outdates_the_secondary(world: World, leaver: int) -> None:
    world.promote(0)
    effects = [world.nodes[node].part_gracefully(leaving=node == leaver) for node in (0, 1)]
    assert effects == [[Effect.CLOSE]] * 2
    assert (world.nodes[0].disk, world.nodes[0].peer_disk) == (Disk.UPTODATE, Disk.OUTDATED)
    assert world.nodes[1].disk is Disk.OUTDATED
    assert not world.nodes[0].frozen


def test_demotion(world: World) -> None:
    world.promote(0)
    world.nodes[0].opens = 1
    with pytest.raises(Refused) as refused:
        world.nodes[0].demote()
    assert refused.value.code == 11
    world.nodes[0].opens = 0
    world.lose()
    world.nodes[0].demote()
    assert not world.nodes[0].frozen


def test_resume_io_makes_a_split_brain_candidate(world: World) -> None:
    world.promote(0)
    world.lose()
    world.nodes[0].resume_io()
    assert not world.nodes[0].frozen
    assert world.metas[0].bitmap


def test_skipping_the_first_sync() -> None:
    world = World(consistent=False, up_to_date=False, current=JUST_CREATED)
    world.connect()
    assert world.show() == ["Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent r"] * 2
    for node in world.nodes:
        node.skip_sync(0x500)
    assert world.show() == ["Connected ro:Secondary/Secondary ds:UpToDate/UpToDate r"] * 2
    with pytest.raises(Refused) as refused:
        world.nodes[0].skip_sync(0x600)
    assert refused.value.code == 10


def test_failed_disk(world: World) -> None:
    world.promote(0)
    assert world.nodes[0].disk_failed() == [Effect.IO_ERROR]
    world.nodes[1].peer_is(Role.PRIMARY, Disk.DISKLESS)
    assert world.show()[0] == "Connected ro:Primary/Secondary ds:Diskless/UpToDate r"
    assert not world.nodes[0].frozen


@pytest.mark.parametrize("promoted", [True, False])
def test_a_disk_that_came_back_is_mended_after_a_break_too(world: World, promoted: bool) -> None:
    """The source has an identifier for it, though nobody had written meanwhile."""
    if promoted:
        world.promote(0)
    node, source = world.nodes[1], world.nodes[0]
    node.disk_failed()
    source.peer_is(Role.SECONDARY, Disk.DISKLESS)
    node.attach()
    source.peer_attached()
    node.overwritten(source.meta.bitmap)
    assert [one.conn for one in world.nodes] == [Conn.SOURCE, Conn.TARGET] and node.meta.current
    world.lose()
    if promoted:
        source.fence_answered(4, source.epoch)
    world.connect()
    assert [one.conn for one in world.nodes] == [Conn.SOURCE, Conn.TARGET]
