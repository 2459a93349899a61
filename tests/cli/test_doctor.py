"""kc-doctor: every check, on a node that is set up right but for one thing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from kisscluster.base.config import digest, load
from tests.cli.node import BIN, FakeNode

README = (BIN.parent / "README.md").read_text()
RUNS = "Connected Primary/Secondary UpToDate/UpToDate r"
CASE = """case "$*" in
*kisscluster.target) echo enabled;;
*drbd.service) echo disabled;;
*RuntimeWatchdogUSec) echo 30s;;
esac
"""


def dump() -> str:
    """What drbdadm says of the README's resource, for both VMs."""
    found = re.search(r"^       (resource web1 {.*?^       })", README, re.S | re.M)
    assert found
    web1 = re.sub(r"^\s*protocol C;", "net { protocol C; }", found[1], flags=re.M)
    return f"# /etc/drbd.conf\ncommon {{\n}}\n\n{web1}\n" + web1.replace("web1", "web2")


def interfaces() -> list[dict[str, object]]:
    def link(name: str, address: str = "", kind: str = "", mtu: int = 1500) -> dict[str, object]:
        told: dict[str, object] = {"ifname": name, "mtu": mtu, "addr_info": [{"family": "inet", "local": address}]}
        return {**told, "linkinfo": {"info_kind": kind}} if kind else told
    return [link("lo", "127.0.0.1"), link("br0", "192.0.2.11", "bridge"), link("enp3s0", "10.0.0.1", mtu=9000)]


class Patient(FakeNode):
    """node1, as kc-doctor likes it."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        for file, text in {"dev/watchdog0": "", "dev/kvm": "", "meminfo": "MemTotal: 1048576 kB\n",
                           "proc/sys/kernel/panic": "10\n"}.items():
            self.put(file, text)
        (self.etc / "secret").write_text("0123456789abcdef" * 4)
        (self.etc / "secret").chmod(0o600)
        (base / "bin/qemu-system-x86_64").symlink_to("/bin/true")
        self.tells("systemctl", "show", CASE)
        self.tells("timedatectl", "show", "echo yes")
        self.ip(interfaces())
        self.dump(dump())
        self.drbd("web1", RUNS)
        self.facts({"peer/local/config": self.digest(), "local/running/web1": ""})

    tells = FakeNode.answer

    def put(self, file: str, text: str) -> None:
        path = self.base / "root" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def digest(self) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KC_NODE", "node1")
            return digest(load(str(self.etc / "kisscluster.conf")))

    def ip(self, links: list[dict[str, object]]) -> None:
        (self.base / "ip.json").write_text(json.dumps(links))
        self.tells("ip", "-json", f"cat {self.base / 'ip.json'}")

    def dump(self, text: str) -> None:
        (self.base / "dump").write_text(text)
        self.tells("drbdadm", "dump", f"cat {self.base / 'dump'}")

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "KC_ROOT": str(self.base / "root"),
                "KC_MEMINFO": str(self.base / "root/meminfo")}

    def edit(self, file: str, old: str, new: str, same: bool = True) -> None:
        """Change a configuration file, on both nodes or here alone."""
        path = self.etc / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        if same:
            self.facts({"peer/local/config": self.digest()})

    def says(self, status: int, *words: str) -> str:
        """What it prints, in which one line has all these words."""
        done = self.call("kc-doctor")
        assert done.returncode == status, done
        if words:
            assert [line for line in done.stdout.splitlines() if all(word in line for word in words)], done.stdout
        assert not done.stderr
        return done.stdout


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


def test_nothing_to_find(patient: Patient) -> None:
    assert patient.says(0) == ""
    done = patient.call("kc-doctor", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"findings": [], "unknown": []})
    assert f"ping -q -c3 -i0.2 -W1 -Mdo -s{9000 - 28} 10.0.0.2" in patient.called()


def test_it_only_looks(patient: Patient) -> None:
    before = patient.snapshot()
    patient.says(0)
    assert patient.snapshot() == before
    looks = ("systemctl show ", "timedatectl show ", "ip -json ", "ping ", "drbdadm dump",
             "drbdadm -d adjust ")
    assert [line for line in patient.called() if not line.startswith(looks)] == []


@pytest.mark.parametrize(("program", "verb", "script", "words", "command"), [
    ("systemctl", "show", CASE.replace("echo enabled", "echo disabled"), "kisscluster.target is not enabled",
     "systemctl enable --now kisscluster.target"),
    ("systemctl", "show", CASE.replace("echo enabled", "echo"), "target is not enabled", "systemctl enable"),
    ("systemctl", "show", CASE.replace("echo disabled", "echo enabled"), "drbd.service is enabled",
     "systemctl disable drbd.service"),
    ("systemctl", "show", CASE.replace("echo 30s", "echo 0"), "does not use the watchdog", "RuntimeWatchdogSec=30"),
    ("timedatectl", "show", "echo no", "clock is not synchronised", "timedatectl set-ntp true"),
    ("ping", "-q", "exit 1", "packets of 9000 bytes", "ping -Mdo -s8972 10.0.0.2"),
    ("drbdadm", "-d", "echo drbdsetup-84 disk-options 10 --set-defaults", "web1: the kernel's DRBD options",
     "drbdadm adjust web1"),
    ("drbdadm", "dump", "echo bad word >&2; exit 10", "drbdadm refuses its files: bad word", "drbdadm dump"),
])
def test_what_programs_say(program: str, verb: str, script: str, words: str, command: str, patient: Patient) -> None:
    patient.tells(program, verb, script)
    lines = patient.says(1, words).splitlines()
    (index,) = [index for index, line in enumerate(lines) if words in line]
    assert lines[index].startswith("! ") and command in lines[index + 1]


@pytest.mark.parametrize("script", ["echo 1: lo: mtu 65536", "echo '[{}, {\"ifname\": \"lo\", \"addr_info\": [{}]}'"])
def test_an_ip_without_json_is_not_understood(script: str, patient: Patient) -> None:
    patient.tells("ip", "-json", script)
    patient.says(112, "? ", "addresses")


def test_interfaces_without_a_name_or_an_address(patient: Patient) -> None:
    patient.ip([{}, {"ifname": "tun0", "addr_info": [{}]}, *interfaces()])
    patient.says(0)


@pytest.mark.parametrize(("program", "verb", "unknown"), [
    ("systemctl", "show", ["target", "drbd_service", "watchdog"]),
    ("timedatectl", "show", ["clock"]),
    ("ping", "-q", ["mtu_lost"]),
    ("ip", "-json", ["addresses", "mtu_lost"]),
    ("drbdadm", "dump", ["dump"]),
    ("drbdadm", "-d", ["web1", "web2"]),
])
def test_who_says_nothing_is_not_known(program: str, verb: str, unknown: list[str], patient: Patient) -> None:
    patient.tells(program, verb, "echo not found >&2; exit 127")
    done = patient.call("kc-doctor", "--json")
    assert (done.returncode, json.loads(done.stdout)["findings"]) == (112, [])
    assert sorted(json.loads(done.stdout)["unknown"]) == sorted(unknown)
    for name in unknown:
        assert f"? node1: not known: {name}\n" in patient.says(112)
    assert patient.call("kc-doctor", "-q").stdout == ""


def test_what_the_kernel_does_not_tell_is_no_new_resource(patient: Patient) -> None:
    patient.tells("drbdadm", "-d", "echo ./drbdsetup-84 new-resource web1")
    patient.says(112, "? ", "web1")


def test_no_findings_beside_unknowns_hide_a_finding(patient: Patient) -> None:
    (patient.base / "root/proc/sys/kernel/panic").unlink()
    patient.says(112, "not known: panic")
    patient.tells("timedatectl", "show", "echo no")
    assert "not known: panic" in patient.says(1, "clock")


def test_a_panic_ends_in_a_reset(patient: Patient) -> None:
    patient.put("proc/sys/kernel/panic", "0\n")
    assert "    echo kernel.panic=10 > /etc/sysctl.d/" in patient.says(1, "kernel.panic is 0")


def test_no_watchdog_is_no_finding(patient: Patient) -> None:
    (patient.base / "root/dev/watchdog0").unlink()
    patient.tells("systemctl", "show", CASE.replace("echo 30s", "echo 0"))
    patient.says(0)


def test_a_watchdog_that_nobody_wants_is_no_finding(patient: Patient) -> None:
    """As kisscluster_watchdog: 0 of the inventory says it."""
    patient.tells("systemctl", "show", CASE.replace("echo 30s", "echo 0"))
    for line, status in (("off", 1), ("0", 0), ("30", 1)):
        patient.put("etc/systemd/system.conf.d/kisscluster.conf", f"# Written\n[Manager]\nRuntimeWatchdogSec={line}\n")
        patient.says(status, *["systemd does not use the watchdog"] * status)


@pytest.mark.parametrize("version", ["version: 9.2.0 (api:2)", None])
def test_another_drbd(version: str | None, patient: Patient) -> None:
    proc = patient.base / "proc"
    proc.write_text(proc.read_text().replace("version: 8.4.11", version)) if version else proc.unlink()
    assert "refuses" not in patient.says(1, "the kernel's own DRBD 8.4 is not loaded")
    assert "drbdadm dump" not in patient.called()       # it would be another drbdadm, with a language of its own


def test_secret(patient: Patient) -> None:
    secret = patient.etc / "secret"
    secret.chmod(0o644)
    patient.says(1, "mode 0644: expected 0600")
    secret.chmod(0o600)
    secret.write_text("short")
    patient.says(1, "expected at least 32")
    secret.unlink()
    assert f"scp -p node2:{secret} {secret} || kc-keygen" in patient.says(1, "not found: expected the shared key")
    secret.mkdir()
    patient.says(112, "? ", "secret")


def test_a_secret_that_others_may_read_is_only_hidden(patient: Patient) -> None:
    (patient.etc / "secret").chmod(0o640)
    said = patient.says(1, "mode 0640")
    assert f"    chmod 0600 {patient.etc}/secret\n" in said and "scp" not in said


def test_configuration_of_the_peer(patient: Patient) -> None:
    patient.edit("vm/web1.conf", "64", "65", same=False)
    assert "| diff - <(ssh node2 'tail" in patient.says(1, "pair: the configuration files of the nodes differ")
    patient.facts({"peer/local/config": None})
    patient.says(112, "? ", "same")
    patient.facts({"peer/local/config": patient.digest()})
    patient.says(0)
    patient.links("storage=down production=down ping=up trace=up unbroken=yes steady=yes")
    patient.says(112, "? ", "same")


def test_files_of_vms(patient: Patient) -> None:
    (patient.etc / "vm/bad.conf").write_text("node = node1\n")
    patient.facts({"peer/local/config": patient.digest()})
    patient.says(1, "configuration: ", "bad.conf", "memory")


def test_memory(patient: Patient) -> None:
    patient.edit("vm/web2.conf", "64", "1000")
    patient.says(1, "pair: this node cannot hold all VMs")
    patient.facts({"local/stopped/web2": "yes 1"})
    patient.says(0)


def test_networks(patient: Patient) -> None:
    patient.ip(interfaces()[:2])
    patient.says(1, "no interface has the address 10.0.0.1")
    patient.ip(interfaces()[2:])
    patient.says(1, "no interface has the address 192.0.2.11")
    patient.says(1, "web2: there is no bridge br0")
    plain = interfaces()
    del plain[1]["linkinfo"]
    patient.ip(plain)
    patient.says(1, "web1: there is no bridge br0")


def test_fence_command(patient: Patient) -> None:
    fence = patient.base / "fence_it"
    fence.write_text("#!/bin/sh\n")
    patient.edit("kisscluster.conf", 'fence = ""', f'fence = "A=b {fence} -n 1"')
    patient.says(1, "only one of the nodes has a fence command")
    patient.edit("kisscluster.conf", "storage = 10.0.0.1\n", "storage = 10.0.0.1\n    fence = true\n")
    assert f"editor {patient.etc}/kisscluster.conf" in patient.says(1, f"node1: {fence} is not there, or cannot be run")
    fence.chmod(0o755)
    patient.says(0)


@pytest.mark.parametrize("command", ["set -e; off", ". /etc/off", "cd / && off", "while off; do :; done", "exec off",
                                     "if off; then :; fi", "command -v off", "true"])
def test_a_fence_command_begins_as_the_shell_likes(command: str, patient: Patient) -> None:
    patient.edit("kisscluster.conf", 'fence = ""', f'fence = "{command}"')
    patient.edit("kisscluster.conf", "storage = 10.0.0.1\n", "storage = 10.0.0.1\n    fence = true\n")
    patient.says(0)
    patient.edit("kisscluster.conf", f'fence = "{command}"', 'fence = "of 1"')
    patient.says(1, "node1: of is not there, or cannot be run")


def test_guests_files(patient: Patient) -> None:
    patient.edit("vm/web1.conf", "cpus", 'extra = "-drive file=/srv/iso/a.iso,media=cdrom"\ncpus')
    assert "scp node2:/srv/iso/a.iso /srv/iso/a.iso" in patient.says(1, "web1: /srv/iso/a.iso is not there")
    patient.put("srv/iso/a.iso", "")
    patient.says(0)
    (patient.base / "root/dev/kvm").unlink()
    patient.says(1, "/dev/kvm is not there")
    for vm in ("web1", "web2"):
        patient.edit(f"vm/{vm}.conf", "cpus", "accel = tcg\ncpus")
    patient.says(0)
    (patient.base / "bin/qemu-system-x86_64").unlink()
    if not Path("/usr/bin/qemu-system-x86_64").exists():
        assert "apt install qemu-system-x86" in patient.says(1, "node1: qemu-system-x86_64 is not there")


def test_disks(patient: Patient) -> None:
    patient.dump(dump().replace("fencing resource-and-stonith", "fencing dont-care", 1))
    said = patient.says(1, "web1: DRBD's disk fencing is dont-care: expected resource-and-stonith")
    assert "editor /etc/drbd.d/web1.res && drbdadm adjust web1" in said and "web2" not in said
    patient.dump(dump().partition("resource web2")[0])
    patient.says(1, "web2: there is no DRBD resource of that name")
    patient.dump(dump())
    (patient.base / "by-res/web2/0").unlink()
    assert "drbdadm adjust web2" in patient.says(1, "web2: its DRBD resource is not up")


def test_two_primaries_while_it_moves_are_no_finding(patient: Patient) -> None:
    patient.tells("drbdadm", "-d", "test $3 = web2 || echo drbdsetup-84 net-options --set-defaults")
    patient.says(1, "web1: the kernel's DRBD options")
    patient.facts({"local/outgoing/web1": "go"})
    patient.says(0)


def test_without_a_heartbeat_the_peer_is_not_known(patient: Patient) -> None:
    """What the files said last is nothing to ping by."""
    patient.tells("ping", "-q", "exit 1")
    (patient.run / "alive").write_text("1.0\n")
    done = subprocess.run(patient.argv("kc-doctor", "--json"), env=patient.environment(), capture_output=True)
    assert (done.returncode, json.loads(done.stdout)) == (112, {"findings": [], "unknown": ["same", "mtu_lost"]})


def test_without_the_storage_cable_no_packet_is_sent(patient: Patient) -> None:
    patient.tells("ping", "-q", "exit 1")
    patient.links("storage=down production=up ping=up trace=up unbroken=yes steady=yes")
    patient.says(112, "? ", "mtu_lost")


def test_what_is_not_connected_has_no_other_options(patient: Patient) -> None:
    patient.tells("drbdadm", "-d", "echo drbdsetup-84 connect web1 ipv4:10.0.0.1:7790 --ping-int=1")
    patient.says(0)
