"""What kc-heartbeat wakes, and when: the daemon's own rounds without a network, on a clock of the test's."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kisscluster.base.config import Config, Node
from kisscluster.base.state import State
from kisscluster.decide.words import Drbd
from kisscluster.see import daemon, kernel
from kisscluster.see.daemon import LULL, Daemon
from kisscluster.see.protocol import Payload

EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"
SOURCE = "SyncSource Secondary/Secondary UpToDate/Inconsistent r"
NODES = (Node("node1", "192.0.2.11", "10.0.0.1", ""), Node("node2", "192.0.2.12", "10.0.0.2", ""))


class Round:
    """node1's kc-heartbeat, half a second at a time; node2 says what the test has it say."""

    def __init__(self, base: Path) -> None:
        self.run, self.state = State(str(base / "run")), State(str(base / "lib"))
        config = Config("", "demo", "192.0.2.1", 5324, 0.5, 3.0, 0.0, "manual", 600, NODES, NODES[0], NODES[1])
        self.daemon = Daemon(config, b"k" * 32, self.run, self.state)
        self.heart = self.daemon.heart
        self.now, self.seq = self.heart.started, 0
        self.says = {"local/fit": "yes", "drbd/web1": EVEN}
        self.speaks = self.switch = True

    def step(self, seconds: float = 0.5) -> set[str]:
        """Which commands were woken."""
        self.run.remove("wake/failover")
        self.run.remove("wake/quorum")
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            self.seq += 1
            for network in ("storage", "production") if self.speaks else ():
                self.heart.receive(self.now, network, Payload("demo", "node2", network, "b" * 32, self.seq * 2 +
                                   (network == "production"), {self.heart.boot: self.heart.seq}, dict(self.says)))
            if self.switch:
                self.heart.answered("switch", self.now)
                self.heart.answered("switch", self.now + 0.001)
            local = self.daemon.beat.local(self.heart)
            self.heart.loop(self.now, local)
            self.daemon._round(self.now, local, tick=False)
        return set(self.run.names("wake"))


@pytest.fixture
def words() -> dict[str, str]:
    return {"web1": EVEN}


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, str]) -> Round:
    """Healthy, and with nothing new for a while."""
    monkeypatch.setattr(daemon, "open_socket", lambda *_: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    monkeypatch.setattr(Daemon, "_ask", lambda *_: None)
    monkeypatch.setattr(Daemon, "_speak", lambda self, now: self.heart.speak(now, self.local))
    monkeypatch.setattr(kernel, "read", lambda: {vm: word for vm, line in words.items() if (word := Drbd.parse(line))})
    out = Round(tmp_path)
    out.step(12)
    assert out.step(2) == set()
    return out


def test_silence_wakes_at_once_and_the_votes_in_the_lull(pair: Round) -> None:
    pair.speaks = False
    assert pair.step(2.5) == set()
    assert pair.step(1) == {"failover"}
    assert pair.step(LULL) == {"failover", "quorum"}
    assert pair.step(LULL) == set()


def test_a_disk_changes_and_the_lull_tells(pair: Round, words: dict[str, str]) -> None:
    words["web1"] = "Connected Primary/Secondary UpToDate/UpToDate r"
    assert pair.step(LULL) == set()                 # the peer's words about it went, and came again: the last news
    assert pair.step(1) == {"failover", "quorum"}


def test_a_failed_disk_of_the_peer_wakes_at_once(pair: Round, words: dict[str, str]) -> None:
    """The survivor's mark must be there before the peer dies."""
    words["web1"] = "Connected Secondary/Primary UpToDate/Diskless r"
    assert pair.step() == {"failover"}


@pytest.mark.parametrize("ahead", [True, False])
def test_the_end_of_a_resync_wakes_who_is_ahead(pair: Round, words: dict[str, str], ahead: bool) -> None:
    """Else a cable that is cut in the next seconds makes the peer believe that it was overtaken."""
    if ahead:
        pair.state.write("ahead/web1", "")
    words["web1"] = SOURCE
    pair.says["drbd/web1"] = "SyncTarget Secondary/Secondary Inconsistent/UpToDate r"
    pair.step(4)
    assert pair.step() == set()
    words["web1"] = pair.says["drbd/web1"] = EVEN
    assert pair.step(1) == ({"failover"} if ahead else set())


@pytest.mark.parametrize("name", ["local/stopped/web1", "local/maintenance"])
def test_a_persons_word_is_kept_at_once(pair: Round, name: str) -> None:
    """By kc-quorum: the node where it was said may go away and forget it, or be unable to say it again."""
    pair.says[name] = "yes 1"
    assert pair.step() == {"failover", "quorum"}


def test_fitness_is_told_at_once_and_acted_on_when_it_has_lasted(pair: Round) -> None:
    """The peer waits for our word; and both wait until it has been true for deadtime and two intervals."""
    pair.says["local/fit"] = "no"
    assert pair.step() == {"failover"}
    assert pair.step(LULL) == {"failover", "quorum"}
    assert pair.step(4.5 - LULL - 0.5) == set()
    assert pair.step() == {"failover", "quorum"}


def test_fitness_is_not_told_by_who_cannot_know(pair: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a LAN, or where our commands no longer know: the peer would give us what we cannot take (*26)."""
    pair.run.write("local/fit", "yes")
    pair.step()
    assert pair.daemon._told()["local/fit"] == "yes"
    lan, pair.heart.lan_since = pair.heart.lan_since, None
    assert "local/fit" not in pair.daemon._told()
    pair.heart.lan_since = lan
    pair.run.write("local/fit", "no")
    monkeypatch.setattr(State, "write", raises)
    pair.step()
    assert pair.daemon._told()["local/fit"] == "no"
    monkeypatch.undo()
    pair.run.write("local/fit", "yes")
    pair.daemon.local = pair.daemon.beat.local(pair.heart)
    assert "local/fit" not in pair.daemon._told()


def raises(*_: object) -> bool:
    raise OSError(28, "No space left on device")


def test_own_lan_lost_wakes_the_votes(pair: Round) -> None:
    pair.switch = False
    pair.heart.paths["production"].heard_at = -99.0
    receive = pair.heart.receive
    pair.heart.receive = (  # type: ignore[method-assign]
        lambda now, network, said: network == "storage" and receive(now, network, said))
    woken = [pair.step() for _ in range(8)]
    assert {"failover", "quorum"} in woken          # links changed, and the peer must hear that we are not fit
