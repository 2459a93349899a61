"""In which order commands read and take away, and how often: what no run of theirs shows but one in a million."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest

from kisscluster.act.drbd import REFUSED
from kisscluster.base.cli import Call
from kisscluster.base.config import Config, Node, Vm
from kisscluster.base.exits import Failure
from kisscluster.base.state import State
from kisscluster.commands import failover, outdate, promote, quorum
from kisscluster.decide.plan import AHEAD, LEVEL, Action
from kisscluster.decide.promote import GO, Verdict
from kisscluster.decide.words import Drbd
from kisscluster.see import kernel
from kisscluster.see.files import Place, node_facts

NODES = (Node("node1", "192.0.2.11", "10.0.0.1", ""), Node("node2", "192.0.2.12", "10.0.0.2", ""))
CONFIG = Config("", "demo", "192.0.2.1", 5324, 0.5, 3.0, 0.0, "manual", 600, NODES, NODES[0], NODES[1])
WEB1 = Vm("web1", "node1", 32, 1, ("br0",), ("02:00:00:00:00:01",), 50, 120.0, "ide", "tcg", "", "utc", "")
EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"
WENT_ON = "WFConnection Primary/Unknown UpToDate/DUnknown r"


class Watched(State):
    """Tells what was read and taken away, in its order."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.did: list[str] = []

    def read(self, name: str) -> str | None:
        self.did.append(f"read {name}")
        return super().read(name)

    def remove(self, name: str, durable: bool = False) -> bool:
        self.did.append(f"remove {name}")
        return super().remove(name, durable)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "conf").touch()
    config = CONFIG._replace(file=str(tmp_path / "conf"))
    return Place(Watched(str(tmp_path / "run")), State(str(tmp_path / "lib")), config)


def call_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> Call:
    for module in (failover, outdate, promote, quorum):
        monkeypatch.setattr(module, "place_of", lambda _: place)
    monkeypatch.setattr(failover, "load_vms", lambda _: ([WEB1], []))
    monkeypatch.setattr(outdate, "named_vm", lambda *_: WEB1)
    options = argparse.Namespace(dry_run=False, quiet=True, verbose=False, json=False, timeout=1.0, config="",
                                 run_dir=place.run.root, what_if=None, vm="web1", leave=False)
    call = Call("kc-failover", options)
    call.run, call.state = place.run, place.state
    monkeypatch.setattr(call.doer, "do", lambda *_, **__: (_ for _ in ()).throw(AssertionError("it acts")))
    return call


def says(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    word = Drbd.parse(line)
    assert word
    monkeypatch.setattr(kernel, "read", lambda: {"web1": word})


def test_the_links_are_read_as_one(place: Place) -> None:
    """(*1)"""
    assert isinstance(place.run, Watched)
    place.run.write("links", "storage=up production=up ping=up trace=up unbroken=yes steady=yes")
    place.run.did.clear()
    node_facts(place)
    assert place.run.did.count("read links") == 1


@pytest.mark.parametrize("name", ["local/fit", "peer/local/fit"])
def test_unfit_must_last(place: Place, name: str) -> None:
    """(*4)"""
    def long() -> bool:
        facts = node_facts(place)
        return facts.me_unfit_long if name == "local/fit" else facts.peer_unfit_long
    place.run.write(name, "no")
    assert not long()
    past = os.stat(place.run.path(name)).st_mtime - CONFIG.deadtime - 2 * CONFIG.interval
    os.utime(place.run.path(name), (past, past))
    assert long()
    place.run.write(name, "yes")
    assert not long()


@pytest.mark.parametrize("module", [failover, quorum])
def test_the_flag_goes_before_anything_is_read(place: Place, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """What changes from then on raises it again; taken away afterwards, a wake-up would be lost until the tick."""
    assert isinstance(place.run, Watched)
    wake = f"wake/{module.__name__.rpartition('.')[2]}"
    place.run.flag(wake)
    place.run.did.clear()
    module.work(call_of(place, monkeypatch))
    flag = place.run.did.index(f"remove {wake}")
    assert flag < place.run.did.index("read alive") and flag < place.run.did.index("read links")


@pytest.mark.parametrize(("verb", "mark", "line"), [(AHEAD, False, EVEN), (LEVEL, True, WENT_ON)],
                         ids=["ahead", "level"])
def test_a_mark_needs_the_kernels_own_word(place: Place, monkeypatch: pytest.MonkeyPatch, verb: str, mark: bool,
                                           line: str) -> None:
    """It may have been given up, or have gone on, since the heartbeat looked (*24)."""
    if mark:
        place.state.write("ahead/web1", "")
    says(monkeypatch, line)
    failover.keep_books(call_of(place, monkeypatch), place, Action(verb, "web1", ""))
    assert place.state.has("ahead/web1") == mark


def test_nothing_is_outdated_by_an_old_look(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """(*24): connected again, and the heartbeat has not said so yet."""
    place.run.write("drbd/web1", "WFConnection Secondary/Unknown UpToDate/DUnknown r")
    place.run.write("yields/web1", "")
    says(monkeypatch, EVEN)
    with pytest.raises(Failure, match="just changed"):
        outdate.work(call_of(place, monkeypatch))


@pytest.mark.parametrize(("home", "pause"), [("node1", 0.3), ("node2", 0.7)], ids=["home", "away"])
def test_two_that_refuse_each_other_do_not_stay_in_step(place: Place, monkeypatch: pytest.MonkeyPatch, home: str,
                                                        pause: float) -> None:
    """(*22)"""
    pauses: list[float] = []
    monkeypatch.setattr(promote, "named_vm", lambda *_: WEB1._replace(node=home))
    monkeypatch.setattr(promote, "fresh_verdict", lambda *_: Verdict(GO, ""))
    monkeypatch.setattr(promote, "attempt", lambda *_: REFUSED)
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("time.monotonic", lambda: float(len(pauses)) * pause)
    promote.work(call_of(place, monkeypatch))
    assert set(pauses) == {pause}
