"""Every kind of mistake is one line that names file, section, key, value and what was expected."""

from pathlib import Path

import pytest

from kisscluster.base.config import Config, derived_mac, digest, load, load_vm, load_vms, read_secret
from kisscluster.base.exits import Exit, Failure

GOOD = """\
cluster = demo
ping = 192.0.2.1
[nodes]
  [[node1]]
    production = 192.0.2.11
    storage = 10.0.0.1
    fence = "ipmi -o off, node1"
  [[node2]]
    production = 192.0.2.12
    storage = 10.0.0.2
"""
VM = "node = node1\nmemory = 2048\ncpus = 2\nbridge = br0\n"


@pytest.fixture(autouse=True)
def on_node1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KC_NODE", "node1")


def config(tmp_path: Path, text: str = GOOD) -> Config:
    (tmp_path / "vm").mkdir(exist_ok=True)
    (tmp_path / "kisscluster.conf").write_text(text)
    return load(str(tmp_path / "kisscluster.conf"))


def mistakes(call: object) -> str:
    assert isinstance(call, pytest.ExceptionInfo)
    assert call.value.status == Exit.CONFIG
    return str(call.value)


def test_defaults_and_sides(tmp_path: Path) -> None:
    found = config(tmp_path)
    assert (found.port, found.interval, found.deadtime, found.settle) == (5324, 0.5, 3.0, 30)
    assert (found.failback, found.failback_after) == ("migrate", 600)
    assert (found.me.name, found.peer.name, found.second) == ("node1", "node2", False)
    assert found.me.fence == "ipmi -o off, node1"


@pytest.mark.parametrize(("old", "new", "named"), [
    ("cluster = demo\n", "", ["key cluster", "missing"]),
    ("cluster = demo", "cluster = a b", ["key cluster", "'a b'"]),
    ("ping = 192.0.2.1", "ping = switch", ["key ping", "'switch'", "IPv4"]),
    ("ping = 192.0.2.1", "ping = 192.0.2.11", ["key production", "not that of ping"]),
    ("ping = 192.0.2.1", "ping = 192.0.2.1\ndeadtime = 1", ["key deadtime", "four intervals"]),
    ("ping = 192.0.2.1", "ping = 192.0.2.1\ndeadtime = soon", ["key deadtime", "'soon'", "seconds from 1 to 60"]),
    ("ping = 192.0.2.1", "ping = 192.0.2.1\nport = 70000", ["key port", "'70000'", "65535"]),
    ("ping = 192.0.2.1", "ping = 192.0.2.1\nfailback = never", ["key failback", "'never'", "manual"]),
    ("ping = 192.0.2.1", "ping = 192.0.2.1\nPing = 192.0.2.1", ["key Ping", "no such key"]),
    ("ping = 192.0.2.1", "ping = 192.0.2.1\nping = 192.0.2.9", ["uplicate"]),
    ("ping = 192.0.2.1", "ping 192.0.2.1", ["nvalid line"]),
    ("storage = 10.0.0.2", "storage = 10.0.0.1", ["section nodes/node2", "key storage", "node1's storage"]),
    ("storage = 10.0.0.2", "storage = 10.0.0.256", ["section nodes/node2", "key storage", "'10.0.0.256'"]),
    ("storage = 10.0.0.2", "storage = 127.0.0.1", ["section nodes/node2", "key storage"]),
    ("storage = 10.0.0.2", "storage = 10.0.0.2\n[[node3]]\nproduction=192.0.2.13\nstorage=10.0.0.3", ["exactly two"]),
    ("[[node2]]", "[[node_2]]", ["section nodes", "'node_2'", "host name"]),
    ("[[node1]]", "[[node9]]", ["this host's name", "'node1'", "node9 or node2"]),
    ("    fence = \"ipmi -o off, node1\"", "    fence = ipmi, off", ["section nodes/node1", "key fence", "quote"]),
])
def test_mistakes_in_the_cluster_file(tmp_path: Path, old: str, new: str, named: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(Failure) as call:
        config(tmp_path, GOOD.replace(old, new, 1))
    for text in [str(tmp_path / "kisscluster.conf"), *named]:
        assert text in mistakes(call)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(Failure) as call:
        config(tmp_path, GOOD.replace("demo", "a b").replace("10.0.0.2", "x"))
    assert len(mistakes(call).split("\n")) == 2


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Failure) as call:
        load(str(tmp_path / "nothing.conf"))
    assert "nothing.conf" in mistakes(call)


@pytest.mark.parametrize(("old", "new", "named"), [
    ("memory = 2048\n", "", ["key memory", "missing", "MiB"]),
    ("memory = 2048", "memory = lots", ["key memory", "'lots'"]),
    ("cpus = 2", "cpus = 0", ["key cpus", "'0'"]),
    ("node = node1", "node = node3", ["key node", "'node3'", "node1 or node2"]),
    ("bridge = br0", "bridge = br0\nmac = 03:00:00:00:00:01", ["key mac", "unicast"]),
    ("bridge = br0", "bridge = br0\nmac = 02:00:00:00:00:01, 02:00:00:00:00:02", ["key mac", "each bridge"]),
    ("bridge = br0", "bridge = br0,\ndisk = floppy", ["key disk", "'floppy'", "scsi"]),
    ("bridge = br0", "bridge = br0\nram = 5", ["key ram", "no such key"]),
    ("bridge = br0", "bridge = br0\n[disks]", ["section top, key disks"]),
])
def test_mistakes_in_a_vm_file(tmp_path: Path, old: str, new: str, named: list[str]) -> None:
    found = config(tmp_path)
    (tmp_path / "vm/web1.conf").write_text(VM.replace(old, new, 1))
    with pytest.raises(Failure) as call:
        load_vm(found, "web1")
    for text in [str(tmp_path / "vm/web1.conf"), *named]:
        assert text in mistakes(call)


@pytest.mark.parametrize("name", ["Web1", "1web", "web-1", "all", "home", "none", "hold", "a234567890123456", "wéb"])
def test_names_that_no_vm_may_have(tmp_path: Path, name: str) -> None:
    found = config(tmp_path)
    (tmp_path / f"vm/{name}.conf").write_text(VM)
    vms, lines = load_vms(found)
    assert not vms
    assert len(lines) == 1 and f"{name}.conf" in lines[0] and "[a-z]" in lines[0]


def test_one_bad_file_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    found = config(tmp_path)
    (tmp_path / "vm/web1.conf").write_text(VM + "order = 60\n")
    (tmp_path / "vm/db.conf").write_text(VM)
    (tmp_path / "vm/bad.conf").write_text("node =")
    (tmp_path / "vm/web1.conf~").write_text("not read")
    vms, lines = load_vms(found)
    assert [vm.name for vm in vms] == ["db", "web1"]
    assert lines and all("bad.conf" in line for line in lines)


def test_duplicate_mac_names_both(tmp_path: Path) -> None:
    found = config(tmp_path)
    for name in ("web1", "web2"):
        (tmp_path / f"vm/{name}.conf").write_text(VM + "mac = 02:00:C0:FF:EE:04\n")
    vms, lines = load_vms(found)
    assert [vm.name for vm in vms] == ["web1"]
    assert len(lines) == 1 and "web2.conf" in lines[0] and "02:00:c0:ff:ee:04" in lines[0] and "web1" in lines[0]


def test_derived_macs_are_stable_and_distinct(tmp_path: Path) -> None:
    found = config(tmp_path)
    (tmp_path / "vm/web1.conf").write_text(VM.replace("br0", "br0, br1"))
    vm = load_vm(found, "web1")
    assert vm.bridge == ("br0", "br1")
    assert vm.mac == (derived_mac("web1", 0), derived_mac("web1", 1))
    assert len(set(vm.mac)) == 2 and all(mac.startswith("02:") for mac in vm.mac)


def test_digest_sees_every_file(tmp_path: Path) -> None:
    found = config(tmp_path)
    before = digest(found)
    (tmp_path / "vm/web1.conf").write_text(VM)
    assert digest(found) != before


def test_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(Failure, match="kc-keygen"):
        read_secret(str(file))
    file.write_text("x" * 64 + "\n")
    for mode, good in ((0o600, True), (0o640, False), (0o604, False), (0o400, True)):
        file.chmod(mode)
        if good:
            assert read_secret(str(file)) == b"x" * 64
        else:
            with pytest.raises(Failure, match="0600"):
                read_secret(str(file))
    file.chmod(0o600)
    file.write_text("short")
    with pytest.raises(Failure, match="32"):
        read_secret(str(file))
