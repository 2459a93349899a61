"""kc-quorum and kc-failover as processes."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.node import DEAD, ISOLATED, FakeNode


def test_healthy(node: FakeNode) -> None:
    done = node.call("kc-quorum")
    assert (done.returncode, done.stdout) == (0, "decision=home reason='both nodes are well'\n")
    assert (node.run / "decision").read_text() == "home both nodes are well\n"
    assert (node.run / "local/fit").read_text() == "yes\n"
    assert (node.run / "wake/failover").exists()
    (node.run / "wake/failover").unlink()
    node.call("kc-quorum")
    assert not (node.run / "wake/failover").exists()          # nothing changed


@pytest.mark.parametrize(("links", "decision", "status"), [
    (DEAD, "all", 0), (ISOLATED, "hold", 106), (ISOLATED.replace("trace=down", "trace=up"), "hold", 106),
    (DEAD.replace("trace=down", "trace=up"), "home", 0), ("storage=up", "hold", 75),
    (DEAD + " starting=yes", "hold", 75),
])
def test_decisions(node: FakeNode, links: str, decision: str, status: int) -> None:
    node.links(links)
    done = node.call("kc-quorum", "--json")
    assert json.loads(done.stdout)["decision"] == decision
    assert done.returncode == status


def test_stale_heartbeat_holds(node: FakeNode) -> None:
    for ago in (2.0, 1e6, -50.0):
        node.beat(ago)
        done = subprocess.run(node.argv("kc-quorum"), env=node.environment(), text=True, capture_output=True)
        assert (done.returncode, done.stdout.split()[0]) == (75, "decision=hold")
    (node.run / "alive").unlink()
    done = subprocess.run(node.argv("kc-quorum"), env=node.environment(), text=True, capture_output=True)
    assert done.returncode == 75
    assert "not running" in done.stdout


def test_what_if_needs_no_configuration(node: FakeNode) -> None:
    done = node.call("kc-quorum", "--config", "/nonexistent", "--what-if", "storage=down,production=down,trace=down")
    assert (done.returncode, done.stdout.split()[0]) == (0, "decision=all")
    done = node.call("kc-quorum", "--what-if", "storage=down,production=down,trace=down,ping=down")
    assert (done.returncode, done.stdout.split()[0]) == (106, "decision=hold")
    for wrong in ("ping=maybe", "ping", "colour=red"):
        done = node.call("kc-quorum", "--what-if", wrong)
        assert (done.returncode, done.stdout) == (2, "")


def test_unfit_peer_by_the_age_of_its_word(node: FakeNode) -> None:
    node.facts({"peer/local/fit": "no"})
    assert node.call("kc-quorum").stdout.startswith("decision=home")
    old = time.time() - 10
    os.utime(node.run / "peer/local/fit", (old, old))
    assert node.call("kc-quorum").stdout.startswith("decision=all")


def test_higher_word_of_the_peer_is_adopted_and_kept(node: FakeNode) -> None:
    node.facts({"peer/local/maintenance": "yes 7", "peer/local/stopped/web1": "yes 3", "local/stopped/web1": "no 4"})
    assert node.call("kc-quorum").stdout.startswith("decision=hold")
    assert (node.lib / "words/maintenance").read_text() == "yes 7\n"
    assert (node.run / "local/stopped/web1").read_text() == "no 4\n"
    node.facts({"peer/local/maintenance": "no 6", "local/maintenance": None})       # we were rebooted, it is behind
    assert node.call("kc-quorum").stdout.startswith("decision=hold")
    assert node.call("kc-maintenance", "off").returncode == 0
    assert (node.run / "local/maintenance").read_text() == "no 8\n"
    assert node.call("kc-quorum").stdout.startswith("decision=home")


def test_failover_starts_what_belongs_here(node: FakeNode) -> None:
    done = node.call("kc-failover")
    assert done.returncode == 0
    assert node.called() == ["systemctl --no-block start kc-vm@web1.service"]
    assert done.stdout == "decision=home actions=start:web1\n"


def test_failover_after_the_peers_death(node: FakeNode) -> None:
    node.links(DEAD)
    for vm in ("web1", "web2"):
        node.drbd(vm, "WFConnection Secondary/Unknown UpToDate/DUnknown r")
    node.facts({"even/web1": "", "even/web2": ""})
    assert node.call("kc-failover").returncode == 0
    assert node.called() == ["systemctl --no-block start kc-vm@web1.service kc-vm@web2.service"]


def test_failover_dry_run_says_what_it_would_do(node: FakeNode) -> None:
    done = node.call("kc-failover", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "systemctl --no-block start kc-vm@web1.service\n")


def test_failover_with_one_bad_file_does_the_rest(node: FakeNode) -> None:
    (node.etc / "vm/bad.conf").write_text("nonsense")
    done = node.call("kc-failover")
    assert done.returncode == 78
    assert "bad.conf" in done.stderr
    assert node.called() == ["systemctl --no-block start kc-vm@web1.service"]


def test_failover_is_one_actor(node: FakeNode) -> None:
    import fcntl
    (node.run / "lock").mkdir()
    with open(node.run / "lock/failover", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = node.call("kc-failover", "--timeout", "0.2")
    assert done.returncode == 75
    assert node.called() == []


@pytest.mark.parametrize("waits", [True, False])
def test_fence_command_is_asked_for(node: FakeNode, waits: bool) -> None:
    """By a VM that waits for the proof; not while all of them run here after a planned leave."""
    node.configure(fence="true")
    node.links(DEAD)
    for name in ("web1", "web2"):
        node.drbd(name, "WFConnection Primary/Unknown UpToDate/Outdated r")
        node.facts({f"local/running/{name}": ""})
    if waits:
        (node.run / "local/running/web2").unlink()
    done = node.call("kc-failover")
    assert done.stdout.startswith("decision=hold")
    assert any("kc-fence.service" in line for line in node.called()) is waits


@pytest.mark.parametrize("file", [None, "node = node1\nmemory = lots\n"])
def test_fence_command_is_asked_for_what_has_no_file(node: FakeNode, file: str | None) -> None:
    """Its handler waits for the proof, too."""
    node.configure(fence="true")
    node.links(DEAD)
    node.drbd("web1", "WFConnection Primary/Unknown UpToDate/DUnknown s")
    node.drbd("web2", "WFConnection Primary/Unknown UpToDate/Outdated r")
    node.facts({"local/running/web1": "", "local/running/web2": ""})
    (node.etc / "vm/web1.conf").write_text(file) if file else (node.etc / "vm/web1.conf").unlink()
    node.call("kc-failover")
    assert any("kc-fence.service" in line for line in node.called())


@pytest.mark.parametrize(("command", "proven"), [("true", True), ("false", False), ("kill $$", False),
                                                 ("exit 77", False)])
def test_fence(node: FakeNode, command: str, proven: bool) -> None:
    node.configure(fence=command)
    node.links(DEAD)
    done = node.call("kc-fence")
    assert done.returncode == (0 if proven else 1)
    assert (node.run / "local/proven").exists() is proven
    decision = node.call("kc-quorum").stdout.split()[0]
    assert decision == ("decision=all" if proven else "decision=hold")
    node.facts({"peer/boot": "cd" * 16})                        # it was heard again since, and died again
    assert node.call("kc-quorum").stdout.split()[0] == "decision=hold"
    assert not (node.run / "local/proven").exists()


def test_no_fencing_of_the_living_or_by_the_isolated(node: FakeNode) -> None:
    node.configure(fence=f"touch {node.base}/fenced")
    assert node.call("kc-fence").returncode == 107
    assert node.call("kc-fence", "--confirm").returncode == 107
    node.links(ISOLATED)
    assert node.call("kc-fence").returncode == 1
    assert not (node.base / "fenced").exists()
    assert node.call("kc-fence", "--confirm").returncode == 0


def opened_by_a_reader(pipe: Path) -> int:
    """A pipe's other end, as soon as somebody reads from it."""
    end = time.monotonic() + 10
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.parametrize("name", ["failover", "quorum"])
def test_first_the_flag_then_the_facts(node: FakeNode, name: str) -> None:
    """What changes while a command reads raises the flag again, and must not be taken for what it read."""
    pipe = node.etc / "vm/web3.conf"
    os.mkfifo(pipe)                                             # reading stands still here
    node.facts({f"wake/{name}": ""})
    node.beat()
    process = subprocess.Popen(node.argv(f"kc-{name}"), env=node.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        writer = opened_by_a_reader(pipe)
        assert not (node.run / f"wake/{name}").exists()
        node.facts({f"wake/{name}": ""})
        pipe.unlink()
        os.close(writer)
        assert process.wait(10) in (0, 75, 78)
    finally:
        process.kill()
        process.wait()
    assert (node.run / f"wake/{name}").exists()


@pytest.mark.parametrize("name", ["failover", "quorum"])
def test_flag_goes_though_nothing_can_be_read(node: FakeNode, name: str) -> None:
    """It would wake the command again at once, for ever."""
    (node.etc / "kisscluster.conf").write_text("nonsense")
    node.facts({f"wake/{name}": ""})
    assert node.call(f"kc-{name}", "--dry-run").returncode == 78
    assert (node.run / f"wake/{name}").exists()
    assert node.call(f"kc-{name}").returncode == 78
    assert not (node.run / f"wake/{name}").exists()
