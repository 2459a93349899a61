"""kc-heartbeat's knowledge on a virtual clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kisscluster.see.heart import NETWORKS, Heart, Times
from kisscluster.see.protocol import Payload

TIMES = Times(interval=0.5, deadtime=3.0, settle=5.0)
EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"


class Two:
    """Two hearts and the wires between them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hearts = {"node1": self.heart("node1", "node2", "a" * 32), "node2": self.heart("node2", "node1", "b" * 32)}
        self.local: dict[str, dict[str, str]] = {"node1": {}, "node2": {}}
        self.cut: set[tuple[str, str]] = set()               # (sender, network)
        self.switch = True
        self.unanswered: set[str] = set()                    # whose pings the switch does not get
        self.wire: list[Payload] = []

    def heart(self, me: str, peer: str, boot: str) -> Heart:
        return Heart(self.now, TIMES, "demo", (me, peer), boot)

    def step(self, seconds: float = 0.5, still: str = "") -> None:
        """One interval: everybody loops, speaks, pings; `still`: that node does nothing."""
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            for name, heart in self.hearts.items():
                if name != still:
                    heart.loop(self.now, self.local[name])
                    if self.switch and name not in self.unanswered:
                        heart.answered("switch", self.now)
                        heart.answered("switch", self.now + 0.001)
            for name in self.hearts:
                if name != still:
                    self.speak(name)

    def speak(self, name: str) -> None:
        other = "node2" if name == "node1" else "node1"
        for payload in self.hearts[name].speak(self.now, self.local[name]):
            self.wire.append(payload)
            if (name, payload.network) not in self.cut:
                self.hearts[other].receive(self.now, payload.network, payload)

    def links(self, name: str) -> str:
        links = self.hearts[name].links(self.now)
        return " ".join(key for key, value in links._asdict().items() if value)


@pytest.fixture
def two() -> Two:
    out = Two()
    out.step(6)
    assert out.links("node1") == out.links("node2") == "storage production ping unbroken steady"
    return out


def test_starting_for_one_deadtime() -> None:
    two = Two()
    two.step(2.5)
    assert "starting" in two.links("node1")
    two.step(1)
    assert "starting" not in two.links("node1")


def test_one_way_link(two: Two) -> None:
    two.cut.add(("node1", "storage"))
    two.step(4)
    assert "storage" not in two.links("node1") and "storage" not in two.links("node2")
    assert "production" in two.links("node1")


def test_silence_then_only_fresh_pings_count(two: Two) -> None:
    two.cut = {("node1", network) for network in NETWORKS}
    heart = two.hearts["node2"]
    while heart.silent_since is None:
        two.now += 0.1
        heart.loop(two.now, {})
        if heart.silent_since is None:
            heart.answered("switch", two.now)
    assert heart.wants_ping() and not heart.ping_up(two.now)
    heart.answered("switch", two.now)
    assert not heart.ping_up(two.now)
    heart.answered("switch", two.now)                  # the same ping twice proves nothing new
    assert not heart.ping_up(two.now)
    heart.answered("switch", two.now + 0.01)
    assert heart.ping_up(two.now + 0.02)


def test_standstill(two: Two) -> None:
    two.step(2, still="node1")
    late = [payload for payload in two.wire if payload.node == "node2"][-4:]
    heart = two.hearts["node1"]
    heart.loop(two.now, {})
    assert not heart.unbroken and heart.links(two.now).starting
    for payload in late:
        heart.receive(two.now, payload.network, payload)
    assert not heart.unbroken                          # they lay in a queue and echo what was sent before
    two.step(1)
    assert heart.unbroken


def test_gap_of_half_deadtime_is_remembered_until_the_peer_speaks(two: Two) -> None:
    two.switch = False
    two.cut = {("node2", network) for network in NETWORKS}
    two.step(1.5)
    assert two.hearts["node1"].unbroken
    two.step(0.5)
    assert not two.hearts["node1"].unbroken
    two.switch = True
    two.step(3)
    assert not two.hearts["node1"].unbroken
    two.cut = set()
    two.step(2)
    assert two.hearts["node1"].unbroken


def test_mute_node_doubts_from_its_last_word_that_was_heard(two: Two) -> None:
    """It hears the peer all the time, which was promoted meanwhile and writes: what is heard echoes old words (*9)."""
    two.cut, two.unanswered = {("node1", network) for network in NETWORKS}, {"node1"}
    mute, other = two.hearts["node1"], two.hearts["node2"]
    two.step(2.5)
    assert two.wire[-1].node == "node2" and mute.peer_seq == two.wire[-1].seq        # it hears everything
    assert not mute.unbroken
    assert other.alive(two.now)                                # the doubt comes first
    two.step(4)
    assert not mute.unbroken and not mute.alive(two.now) and not other.alive(two.now)
    two.unanswered = set()
    two.step(4)
    assert not mute.unbroken                                   # the switch alone brings nothing back
    two.cut = set()
    two.step(1.5)
    assert mute.unbroken


def test_doubt_counts_from_what_the_peer_echoes(two: Two) -> None:
    mute = two.hearts["node1"]
    said = [payload for payload in two.wire if payload.node == "node2"][-1]
    old = dict(mute.sent)[said.heard["a" * 32]]
    mute.unbroken = False
    mute.receive(old + 1.5, said.network, replace(said, seq=said.seq + 1))
    assert not mute.unbroken
    mute.receive(old + 1.4, said.network, replace(said, seq=said.seq + 2))
    assert mute.unbroken


def test_replay_of_anything_is_no_life(two: Two) -> None:
    recorded = [payload for payload in two.wire if payload.node == "node1"]
    two.step(4, still="node1")
    heart = two.hearts["node2"]
    assert not heart.alive(two.now)
    for payload in recorded:
        heart.receive(two.now, payload.network, payload)
    assert not heart.alive(two.now)
    assert heart.dropped >= len(recorded)


def test_withheld_datagram_is_no_life(two: Two) -> None:
    """An attacker who holds a good datagram back cannot use it after the peer's death."""
    two.cut = {("node1", network) for network in NETWORKS}
    two.step(0.5)
    held = two.wire[-4:]
    two.step(4, still="node1")
    heart = two.hearts["node2"]
    for payload in held:
        heart.receive(two.now, payload.network, payload)
    assert not heart.alive(two.now)


def test_restart_is_heard_and_the_old_start_is_not(two: Two) -> None:
    old = replace([p for p in two.wire if p.node == "node1"][-1], seq=10**6)
    two.hearts["node1"] = two.heart("node1", "node2", "c" * 32)
    two.step(1.5)
    assert two.hearts["node2"].peer_boot == "c" * 32
    before = two.hearts["node2"].dropped
    assert not two.hearts["node2"].receive(two.now, old.network, old)
    assert two.hearts["node2"].dropped == before + 1


def test_other_cluster_node_and_network_are_dropped(two: Two) -> None:
    heart = two.hearts["node2"]
    good = replace([p for p in two.wire if p.node == "node1"][-1], seq=10**6)
    for bad in (replace(good, cluster="x"), replace(good, node="node2"), replace(good, network="storage"
                if good.network == "production" else "production")):
        assert not heart.receive(two.now, good.network, bad)
    assert heart.dropped == 3


def test_peer_words_about_a_vm_must_be_newer_than_our_change(two: Two) -> None:
    two.local = {"node1": {"drbd/web1": EVEN}, "node2": {"drbd/web1": EVEN, "local/fit": "yes"}}
    two.step(1.5)
    heart = two.hearts["node1"]
    assert heart.peer_facts() == two.local["node2"]
    stale = [p for p in two.wire if p.node == "node2"][-1]
    two.local["node1"]["drbd/web1"] = EVEN.replace("Connected", "WFConnection")
    heart.loop(two.now, two.local["node1"])
    assert heart.peer_facts() == {"local/fit": "yes"}
    heart.receive(two.now, stale.network, replace(stale, seq=stale.seq + 1))     # it had not heard us yet
    assert heart.peer_facts() == {"local/fit": "yes"}
    two.step(1)
    assert heart.peer_facts() == two.local["node2"]
