"""kc-status, kc-keygen."""

import json
import stat

from tests.cli.node import DEAD, ISOLATED, FakeNode

RUNS = "Connected Primary/Secondary UpToDate/UpToDate r"


def healthy(node: FakeNode) -> None:
    node.drbd("web1", RUNS)
    node.drbd("web2", "Connected Secondary/Primary UpToDate/UpToDate r")
    node.facts({"local/running/web1": "", "peer/local/running/web2": "", "peer/drbd/web2": RUNS})


def test_healthy(node: FakeNode) -> None:
    healthy(node)
    done = node.call("kc-status")
    assert done.returncode == 0, done.stdout
    assert "web1  node1  node1" in done.stdout and "web2  node2  node2" in done.stdout
    assert "\x1b" not in done.stdout
    facts = json.loads(node.call("kc-status", "--json").stdout)
    assert facts["healthy"] is True and facts["problems"] == [] and facts["votes"] == 3
    assert [vm["runs_on"] for vm in facts["vms"]] == ["node1", "node2"]
    assert node.call("kc-status", "-q").stdout == ""


def test_dead_peer_and_stale_copy_are_told_with_a_command(node: FakeNode) -> None:
    healthy(node)
    node.links(DEAD)
    node.drbd("web1", "WFConnection Primary/Unknown UpToDate/Outdated r")
    node.drbd("web2", "WFConnection Secondary/Unknown Outdated/DUnknown r")
    done = node.call("kc-status")
    assert done.returncode == 1
    assert "node2 is dead" in done.stdout
    assert "! web2: not running" in done.stdout and "the copy here is Outdated" in done.stdout
    assert "drbdadm primary --force web2" in done.stdout


def test_isolated_node_gives_no_dangerous_advice(node: FakeNode) -> None:
    """What runs well on the other node must not be started here by a tired human."""
    node.links(ISOLATED)
    node.drbd("web2", "WFConnection Secondary/Unknown UpToDate/DUnknown r")
    done = node.call("kc-status")
    assert done.returncode == 1
    assert "--force" not in done.stdout and "/ahead/" not in done.stdout
    assert "kc-fence --confirm" in done.stdout


def test_stopped_by_a_person_is_as_it_should_be(node: FakeNode) -> None:
    healthy(node)
    node.drbd("web1", "Connected Secondary/Secondary UpToDate/UpToDate r")
    node.facts({"local/running/web1": None, "local/stopped/web1": "yes 1"})
    done = node.call("kc-status")
    assert done.returncode == 0, done.stdout
    assert "stopped by a person" in done.stdout


def test_no_heartbeat(node: FakeNode) -> None:
    import subprocess
    (node.run / "alive").unlink()
    done = subprocess.run(node.argv("kc-status"), env=node.environment(), text=True, capture_output=True)
    assert done.returncode == 1
    assert "kc-heartbeat is not running" in done.stdout and "systemctl restart kc-heartbeat" in done.stdout


def test_bad_vm_file_is_shown(node: FakeNode) -> None:
    healthy(node)
    (node.etc / "vm/bad.conf").write_text("node = node1")
    done = node.call("kc-status")
    assert done.returncode == 1
    assert "bad.conf" in done.stdout


def test_keygen_never_overwrites(node: FakeNode) -> None:
    assert node.call("kc-keygen", "-n").returncode == 0
    file = node.etc / "secret"
    assert not file.exists()
    assert node.call("kc-keygen").returncode == 0
    key = file.read_text()
    assert len(key.strip()) == 64 and stat.S_IMODE(file.stat().st_mode) == 0o600
    done = node.call("kc-keygen")
    assert done.returncode == 107 and file.read_text() == key
    assert [path.name for path in node.etc.iterdir() if "secret" in path.name] == ["secret"]
