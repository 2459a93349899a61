"""kc-heartbeat's files: what an earlier run left, what changes wake, marks in their order."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kisscluster.base.state import State
from kisscluster.decide.words import Drbd
from kisscluster.see.beat import Beat
from kisscluster.see.heart import Heart, Times
from kisscluster.see.protocol import Payload

EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"
APART = "WFConnection Secondary/Unknown UpToDate/DUnknown r"


class Node:
    """One heart and its files; the peer is whoever calls hear()."""

    def __init__(self, base: Path) -> None:
        self.run, self.state = State(str(base / "run")), State(str(base / "lib"))
        self.kernel = {"web1": EVEN}
        self.heart = Heart(0.0, Times(0.5, 3.0, 1.0), "demo", ("node1", "node2"), "a" * 32)
        self.beat = self.start()
        self.now, self.seq = 0.0, 0

    def start(self) -> Beat:
        return Beat(self.run, self.state, True, lambda: {
            name: word for name, line in self.kernel.items() if (word := Drbd.parse(line))})

    def round(self, **facts: str) -> set[str]:
        """Hear the peer say these facts, after it heard all that we said; then one round of our own."""
        self.now += 0.5
        self.seq += 1
        said = {name.replace("_", "/"): value for name, value in facts.items()}
        self.heart.receive(self.now, "storage", Payload(
            "demo", "node2", "storage", "b" * 32, self.seq, {"a" * 32: self.heart.seq}, said))
        found = self.beat.local(self.heart)
        self.heart.loop(self.now, found)
        local = self.beat.mark(self.heart, found)
        changed = self.beat.publish(self.now, self.heart, local)
        self.heart.speak(self.now, local)
        return changed


@pytest.fixture
def node(tmp_path: Path) -> Node:
    out = Node(tmp_path)
    for _ in range(3):
        out.round(drbd_web1=EVEN)
    assert out.run.has("even/web1")
    return out


def test_what_an_earlier_run_left(node: Node) -> None:
    for name in ("peer/local/running/web1", "peer/decision", "drbd/gone", "links"):
        node.run.write(name, "old")
    node.run.write("yields/web2", "")
    node.run.remove("peer/local/running/web1")               # leaves an empty folder
    beat = node.start()
    assert beat.marks == {"even/web1": "", "yields/web2": ""}
    assert not node.run.has("peer/decision") and not node.run.has("drbd/gone") and not node.run.has("links")


def test_only_what_can_alter_a_decision_wakes(node: Node) -> None:
    for _ in range(8):                                       # no longer starting, the LAN not yet steady
        node.round(drbd_web1=EVEN)
    assert node.round(drbd_web1=EVEN) == set()
    assert node.round(drbd_web1=EVEN, decision="home all is well") == set()
    assert node.round(drbd_web1=EVEN, local_fit="yes") == {"peer/local/fit"}
    assert node.round(drbd_web1=EVEN, local_fit="yes", claim_web1="home")


def test_word_is_given_only_after_even_is_gone(node: Node) -> None:
    node.kernel["web1"] = APART
    node.round(drbd_web1=APART)
    assert node.run.has("even/web1")
    node.round(drbd_web1=APART, claim_web1="home")
    node.round(drbd_web1=APART, claim_web1="home")
    assert node.run.has("yields/web1") and not node.run.has("even/web1")
    for _ in range(2):
        node.round(drbd_web1="WFConnection Primary/Unknown UpToDate/Outdated r", ahead_web1="")
    assert node.run.has("yields/web1")
    node.kernel["web1"] = EVEN
    for _ in range(3):
        node.round(drbd_web1=EVEN)
    assert not node.run.has("yields/web1") and node.run.has("even/web1")


def test_no_word_while_even_cannot_be_taken_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.kernel["web1"] = APART
    monkeypatch.setattr(node.run, "remove", lambda *_: (_ for _ in ()).throw(OSError(30, "read-only")))
    for _ in range(3):
        node.round(drbd_web1=APART, claim_web1="home")
    assert node.run.has("even/web1") and not node.run.has("yields/web1")
    assert node.beat.failed


def test_no_word_when_we_went_on_ourselves(node: Node) -> None:
    node.kernel["web1"] = APART
    node.state.write("ahead/web1", "")
    for _ in range(3):
        node.round(drbd_web1=APART, claim_web1="home")
    assert not node.run.has("yields/web1")


def test_word_is_taken_back_when_we_went_on_in_the_same_moment(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """kc-fence-peer writes its mark between our first look and our word (*13)."""
    write = node.run.write

    def slow(name: str, text: str, durable: bool = False) -> bool:
        if name == "yields/web1":
            node.state.write("ahead/web1", "")
        return write(name, text, durable)
    node.kernel["web1"] = APART
    monkeypatch.setattr(node.run, "write", slow)
    for _ in range(3):
        node.round(drbd_web1=APART, claim_web1="home")
        assert not node.run.has("yields/web1")
    assert node.state.has("ahead/web1")


@pytest.mark.parametrize(("mine", "peers", "gives"), [("home", "away", False), ("away", "home", True),
                                                      ("home", "home", False), ("away", "away", False)])
def test_who_gives_way(node: Node, mine: str, peers: str, gives: bool) -> None:
    node.kernel["web1"] = APART
    node.run.write("claim/web1", mine)
    for _ in range(3):
        node.round(drbd_web1=APART, claim_web1=peers)
    assert node.run.has("yields/web1") is gives


def test_a_word_about_a_disk_never_stands_there_without_its_marks(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that looks in between would take the peer for one that is not ahead, or has not yielded."""
    done: list[tuple[bool, str]] = []
    write, remove = State.write, State.remove

    def note(kind: bool, call: Callable[..., bool]) -> Callable[..., bool]:
        def noted(self: State, name: str, *more: str) -> bool:
            done.append((kind, name))
            return call(self, name, *more)
        return noted
    monkeypatch.setattr(State, "write", note(True, write))
    monkeypatch.setattr(State, "remove", note(False, remove))
    node.kernel["web1"] = APART
    node.round(drbd_web1=APART, yields_web1="")
    node.round(drbd_web1=APART, yields_web1="")
    assert done.index((True, "peer/yields/web1")) < done.index((True, "peer/drbd/web1"))
    done.clear()
    node.kernel["web1"] = EVEN
    node.round(drbd_web1=APART, yields_web1="")
    assert done.index((False, "peer/drbd/web1")) < done.index((False, "peer/yields/web1"))
