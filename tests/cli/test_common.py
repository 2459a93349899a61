"""What every command does the same."""

import json
import subprocess
from pathlib import Path

import pytest

from kisscluster import VERSION
from tests.cli.node import BIN, FakeNode

COMMANDS = sorted(path.name for path in BIN.glob("kc-*"))
ON_A_VM = ["kc-promote", "kc-demote", "kc-outdate", "kc-adjust", "kc-vm-start", "kc-vm-stop"]
READS_CONFIG = [name for name in COMMANDS if name not in ("kc-keygen", "kc-demote")]
ARGUMENTS = {**{name: ["web1"] for name in [*ON_A_VM, "kc-fence-peer"]}, "kc-standby": ["on"], "kc-maintenance": ["on"]}


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / command), *arguments], stdin=subprocess.DEVNULL, text=True, capture_output=True,
                          timeout=30)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_help_version_usage(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    for option in ("-h", "-V", "--dry-run", "-q", "-v", "--json", "--timeout", "--config", "--run-dir"):
        assert option in done.stdout
    done = run(command, "-V")
    assert (done.returncode, done.stdout) == (0, f"{command} (KISScluster) {VERSION}\n")
    for wrong in (["--no-such-option"], ["--timeout", "0"], ["--timeout", "soon"], ["--verb"]):
        done = run(command, *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage:" in done.stderr


@pytest.mark.parametrize("command", READS_CONFIG)
def test_missing_and_broken_configuration(command: str, node: FakeNode) -> None:
    file = node.etc / "kisscluster.conf"
    file.write_text(file.read_text().replace("ping = 192.0.2.1", "ping = the switch\nsettel = 3"))
    done = node.call(command, *ARGUMENTS.get(command, []))
    assert done.returncode == 78, done
    assert done.stdout == ""
    assert f"{file}: section top, key ping, value 'the switch': expected" in done.stderr
    assert "key settel" in done.stderr
    file.unlink()
    done = node.call(command, *ARGUMENTS.get(command, []))
    assert done.returncode == 78
    assert str(file) in done.stderr
    assert node.called() == []


@pytest.mark.parametrize("command", ON_A_VM)
@pytest.mark.parametrize("name", ["../web1", "Web1", "all", "a b", ""])
def test_names_that_are_none(command: str, name: str, node: FakeNode) -> None:
    done = node.call(command, name)
    assert done.returncode == 2
    assert "expected a VM's name" in done.stderr
    assert node.called() == []


@pytest.mark.parametrize("command", [name for name in ON_A_VM if name != "kc-demote"])
def test_unknown_vm(command: str, node: FakeNode) -> None:
    done = node.call(command, "nosuch")
    assert done.returncode == 78
    assert "nosuch.conf" in done.stderr
    assert node.called() == []


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "kc-heartbeat"])
def test_dry_run_changes_nothing(command: str, node: FakeNode) -> None:
    node.drbd("web1", "WFConnection Secondary/Unknown UpToDate/DUnknown r")
    before = node.snapshot()
    done = node.call(command, "--dry-run", *ARGUMENTS.get(command, []))
    assert done.returncode in (0, 1, 69, 75, 107), done
    assert node.snapshot() == before
    assert node.called() == []


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("kc-heartbeat", "kc-vm-start")])
def test_json_is_one_object(command: str, node: FakeNode) -> None:
    done = node.call(command, "--json", "--timeout", "1", *ARGUMENTS.get(command, []))
    if done.stdout:
        assert isinstance(json.loads(done.stdout), dict)


@pytest.mark.parametrize("command", ["kc-quorum", "kc-status", "kc-failover"])
def test_answer_that_nobody_gets_is_no_success(command: str, node: FakeNode) -> None:
    node.beat()
    with open("/dev/full", "w") as full:
        done = subprocess.run(node.argv(command), env=node.environment(), stdin=subprocess.DEVNULL, stdout=full,
                              stderr=subprocess.DEVNULL)
    assert done.returncode not in (0, 120)


def test_no_temporary_files_are_left(node: FakeNode) -> None:
    node.call("kc-quorum")
    assert not [path for path in Path(node.run).rglob(".*") if path.is_file()]
