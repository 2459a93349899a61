"""kc-failover with more VMs than may start at once, and with more than there is memory for."""

from __future__ import annotations

import os

import pytest

from tests.cli.node import FakeNode

SLOTS = 2 * len(os.sched_getaffinity(0))
EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"


def started(node: FakeNode) -> list[str]:
    """The VMs that kc-failover starts now."""
    assert node.call("kc-failover").returncode == 0
    lines = [line for line in node.called() if line.startswith("systemctl --no-block start")]
    return [word[6:-8] for line in lines for word in line.split() if word.startswith("kc-vm@")]


def crowd(node: FakeNode, count: int, settings: str = "") -> list[str]:
    """So many VMs at home here, in the order of their names, beside web1 and web2."""
    names = [f"vm{index:02d}" for index in range(count)]
    for index, name in enumerate(names):
        (node.etc / f"vm/{name}.conf").write_text(
            f"node = node1\nmemory = 64\ncpus = 1\nbridge = br0\norder = {index}\n{settings}")
        node.facts({f"drbd/{name}": EVEN, f"peer/drbd/{name}": EVEN})
    (node.etc / "vm/web1.conf").unlink()
    return names


@pytest.fixture
def meminfo(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    """A node of 1 GiB."""
    (node.base / "meminfo").write_text("MemTotal:        1048576 kB\nMemFree: 1 kB\n")
    environment = node.environment
    monkeypatch.setattr(node, "environment", lambda: {**environment(), "KC_MEMINFO": str(node.base / "meminfo")})
    return node


def test_a_few_at_once_in_their_order(node: FakeNode) -> None:
    names = crowd(node, SLOTS + 2)
    assert started(node) == names[:SLOTS]
    assert (node.run / "turn").exists()
    assert "turn" in (node.run / f"pending/{names[-1]}").read_text()
    assert started(node) == names[:SLOTS]                       # queued again, and nothing else
    node.facts({f"local/running/{names[0]}": "", f"drbd/{names[0]}": "Connected Primary/Secondary UpToDate/UpToDate r"})
    assert started(node) == names[1:SLOTS + 1]
    node.facts({f"begun/{name}": "1" for name in names[1:SLOTS]})
    assert started(node) == names[1:]                           # who does not start holds nobody for ever
    assert not (node.run / "turn").exists()


def test_one_says_nothing_of_turns(node: FakeNode) -> None:
    assert started(node) == ["web1"]
    assert not (node.run / "turn").exists() and not (node.run / "pending/web1").exists()


def test_who_begins_to_run_wakes_the_next(node: FakeNode) -> None:
    for turn, woken in ((None, False), ("", True)):
        node.facts({"turn": turn, "wake/failover": None})
        node.call("kc-vm-start", "--direct", "web1", KC_VM_USER="root" if os.geteuid() == 0 else "nobody")
        if (node.run / "local/running/web1").exists():
            assert (node.run / "wake/failover").exists() is woken


def test_a_mark_goes_with_what_it_is_about(node: FakeNode) -> None:
    node.facts({"begun/web1": "5", "begun/web2": "5", "begun/gone": "5"})
    assert started(node) == ["web1"]
    assert sorted(path.name for path in (node.run / "begun").iterdir()) == ["web1"]
    node.facts({"local/off/web1": ""})
    assert started(node) == []
    assert not list((node.run / "begun").iterdir())


def test_memory_is_used_up(meminfo: FakeNode) -> None:
    conf = meminfo.etc / "kisscluster.conf"
    conf.write_text("reserve = 800\n" + conf.read_text())       # 224 MiB: room for one of 128 and none for a second
    names = crowd(meminfo, 2)
    meminfo.facts({"local/running/web2": ""})
    (meminfo.etc / "vm/web2.conf").unlink()
    (meminfo.etc / f"vm/{names[1]}.conf").write_text(
        "node = node1\nmemory = 100\ncpus = 1\nbridge = br0\norder = 5\n")
    assert started(meminfo) == names[:1]
    done = meminfo.call("kc-status")
    assert f"{names[1]}: not running: no memory for it here: it needs 164 MiB, 96 of 224 are left" in done.stdout
    assert "pair: this node cannot hold all VMs: they need 292 MiB, it has 224 for them" in done.stdout
    meminfo.called()
    (meminfo.base / "meminfo").write_text("nonsense\n")         # nobody waits for what is not known
    assert started(meminfo) == names


def test_too_small_a_node_is_told_while_all_is_well(meminfo: FakeNode) -> None:
    conf = meminfo.etc / "kisscluster.conf"
    conf.write_text("reserve = 800\n" + conf.read_text())
    for vm, where in (("web1", ""), ("web2", "peer/")):
        meminfo.facts({f"{where}local/running/{vm}": ""})
        meminfo.drbd(vm, "Connected Primary/Secondary UpToDate/UpToDate r")
    done = meminfo.call("kc-status")
    assert (done.returncode, "it has 224 for them" in done.stdout) == (0, True), done.stdout
    meminfo.facts({"local/stopped/web2": "yes 1", "peer/local/running/web2": None})
    assert "cannot hold" not in meminfo.call("kc-status").stdout


def test_pause_between_groups(node: FakeNode) -> None:
    conf = node.etc / "kisscluster.conf"
    conf.write_text("pause = 3600\n" + conf.read_text())
    names = crowd(node, 2)
    assert started(node) == names[:1]
    node.facts({f"local/running/{names[0]}": "", f"drbd/{names[0]}": "Connected Primary/Secondary UpToDate/UpToDate r"})
    assert started(node) == []
    node.facts({f"begun/{names[0]}": "-3600"})
    assert started(node) == names[1:]
