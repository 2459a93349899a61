"""What every command does the same."""

import fcntl
import json
import subprocess
from pathlib import Path

import pytest

from kisscluster import VERSION
from tests.cli.node import BIN, FakeNode

COMMANDS = sorted(path.name for path in BIN.glob("kc-*"))
ON_A_VM = ["kc-promote", "kc-demote", "kc-outdate", "kc-adjust", "kc-migrate", "kc-vm-start", "kc-vm-stop",
           "kc-console"]
READS_CONFIG = [name for name in COMMANDS if name not in ("kc-keygen", "kc-demote")]
ARGUMENTS = {**{name: ["web1"] for name in [*ON_A_VM, "kc-fence-peer"]}, "kc-standby": ["on"], "kc-maintenance": ["on"],
             "kc-monitor": ["web1", "reset"]}


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
    node.facts({"wake/failover": "", "wake/quorum": "", "local/running/web1": "", "local/off/web2": "",
                "peer/local/running/web2": "", "claim/web1": "home", "pending/web2": "why", "local/proven": "old"})
    before = node.snapshot()
    done = node.call(command, "--dry-run", *ARGUMENTS.get(command, []))
    assert done.returncode in (0, 1, 69, 75, 107, 112), done
    assert node.snapshot() == before
    assert command == "kc-doctor" or node.called() == []       # it only looks: test_doctor.py


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("kc-heartbeat", "kc-vm-start")])
def test_json_is_one_object(command: str, node: FakeNode) -> None:
    done = node.call(command, "--json", "--timeout", "1", *ARGUMENTS.get(command, []))
    if done.stdout:
        assert isinstance(json.loads(done.stdout), dict)


@pytest.mark.parametrize("command", ["kc-quorum", "kc-status", "kc-failover", "kc-doctor"])
def test_answer_that_nobody_gets_is_no_success(command: str, node: FakeNode) -> None:
    node.beat()
    with open("/dev/full", "w") as full:
        done = subprocess.run(node.argv(command), env=node.environment(), stdin=subprocess.DEVNULL, stdout=full,
                              stderr=subprocess.DEVNULL)
    assert done.returncode not in (0, 120)


@pytest.mark.parametrize("arguments", [["--help"], ["-V"], ["--dry-run", "web1"]])
def test_other_output_that_nobody_gets_is_no_success(arguments: list[str], node: FakeNode) -> None:
    node.beat()
    with open("/dev/full", "w") as full:
        done = subprocess.run(node.argv("kc-promote", *arguments), env=node.environment(), stdin=subprocess.DEVNULL,
                              stdout=full, stderr=subprocess.DEVNULL)
    assert done.returncode != 0


@pytest.mark.parametrize("flush", ["-v", "--json"])
def test_everything_is_said_before_the_end(flush: str, node: FakeNode) -> None:
    """The commands end without Python's own clearing up."""
    node.drbd("web1", "Connected Primary/Secondary UpToDate/UpToDate r")
    done = node.call("kc-demote", flush, "web1")
    assert done.returncode == 0
    assert done.stdout.endswith("}\n" if flush == "--json" else "demoted=yes\n")
    assert done.stderr == ("" if flush == "--json" else "+ drbdadm secondary web1\n"
                           f"+ touch {node.run}/wake/failover\n")


@pytest.mark.parametrize("command", ["kc-failover", "kc-quorum"])
def test_talk_that_nobody_hears_stops_nothing(command: str, node: FakeNode) -> None:
    """The journal restarts in the middle of a failover."""
    node.drbd("web2", "WFConnection Primary/Unknown UpToDate/Inconsistent r")
    node.beat()
    with open("/dev/full", "w") as full:
        done = subprocess.run(node.argv(command, "-v"), env=node.environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 0 and done.stdout
    assert node.ahead("web2").exists() is (command == "kc-failover")


@pytest.mark.parametrize(("command", "flag"), [("kc-failover", "failover"), ("kc-quorum", "quorum")])
def test_flag_goes_first_and_under_the_lock(command: str, flag: str, node: FakeNode) -> None:
    """What changes while the command reads raises it again; who is not the one actor leaves it alone."""
    node.facts({f"wake/{flag}": ""})
    (node.run / "lock").mkdir()
    with (node.run / f"lock/{flag}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = node.call(command, "--timeout", "0.3")
        assert (done.returncode, node.called()) == (75, [])
        assert (node.run / f"wake/{flag}").exists()
    (node.etc / "kisscluster.conf").write_text("nonsense")
    assert node.call(command).returncode == 78
    assert not (node.run / f"wake/{flag}").exists()           # else the path unit starts it again as fast as it can



def test_no_temporary_files_are_left(node: FakeNode) -> None:
    node.call("kc-quorum")
    assert not [path for path in Path(node.run).rglob(".*") if path.is_file()]
