"""The commands that act on one VM, with drbdadm and systemctl that only write down how they were called."""

import os
import pwd
import signal
import subprocess
import time

import pytest

from tests.cli.node import DEAD, HEALTHY, ISOLATED, FakeNode

APART = "WFConnection Secondary/Unknown UpToDate/DUnknown r"
FROZEN = "WFConnection Primary/Unknown UpToDate/DUnknown s"
EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"


def test_promote_connected(node: FakeNode) -> None:
    node.facts({"claim/web1": "home", "pending/web1": "why"})
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (0, ["drbdadm primary web1"])
    assert not (node.run / "claim/web1").exists() and not (node.run / "pending/web1").exists()
    assert not node.ahead("web1").exists()


def test_promote_twice_is_once(node: FakeNode) -> None:
    node.drbd("web1", "Connected Primary/Secondary UpToDate/UpToDate r")
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (0, [])


def test_promote_refuses_while_the_peer_is_primary(node: FakeNode) -> None:
    node.drbd("web1", "Connected Secondary/Primary UpToDate/UpToDate r")
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (1, [])


def test_promote_asks_and_waits(node: FakeNode) -> None:
    node.drbd("web1", APART)
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (75, [])
    assert (node.run / "claim/web1").read_text() == "home\n"
    assert "asked the peer" in (node.run / "pending/web1").read_text()
    node.facts({"peer/yields/web1": ""})
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (0, ["drbdadm primary web1"])
    assert node.ahead("web1").exists()


def test_promote_on_the_peers_death(node: FakeNode) -> None:
    node.links(DEAD)
    node.drbd("web1", APART)
    assert node.call("kc-promote", "web1").returncode == 75
    node.facts({"even/web1": ""})
    assert node.call("kc-promote", "web1").returncode == 0
    assert node.ahead("web1").exists()


def test_promote_without_quorum(node: FakeNode) -> None:
    node.links(ISOLATED)
    node.drbd("web1", APART)
    node.facts({"even/web1": ""})
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (106, [])


@pytest.mark.parametrize("disk", ["Outdated", "Inconsistent"])
def test_promote_of_a_stale_copy_names_the_command(node: FakeNode, disk: str) -> None:
    node.links(DEAD)
    node.drbd("web1", f"WFConnection Secondary/Unknown {disk}/DUnknown r")
    node.facts({"even/web1": ""})
    node.ahead("web1").touch()
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (107, [])
    assert "drbdadm primary --force web1" in done.stderr


def test_promote_retries_what_a_dying_peer_explains(node: FakeNode) -> None:
    node.answer("drbdadm", "primary", f"test -e {node.base}/second && exit 0; touch {node.base}/second; exit 11")
    done = node.call("kc-promote", "web1")
    assert (done.returncode, node.called()) == (0, ["drbdadm primary web1"] * 2)


def test_refused_promotion_takes_its_mark_back(node: FakeNode) -> None:
    node.links(DEAD)
    node.drbd("web1", APART)
    node.facts({"even/web1": ""})
    node.answer("drbdadm", "primary", "exit 17")
    done = node.call("kc-promote", "web1")
    assert done.returncode == 107
    assert not node.ahead("web1").exists()


def test_promotion_of_unknown_end_keeps_its_mark(node: FakeNode) -> None:
    node.links(DEAD)
    node.drbd("web1", APART)
    node.facts({"even/web1": ""})
    node.answer("drbdadm", "primary", "exec sleep 60")
    done = node.call("kc-promote", "--timeout", "0.5", "web1")
    assert done.returncode == 124
    assert node.ahead("web1").exists()


def test_promote_writes_its_mark_before_the_kernel_is_asked(node: FakeNode) -> None:
    node.links(DEAD)
    node.drbd("web1", APART)
    node.facts({"even/web1": ""})
    node.answer("drbdadm", "primary", f"test -e {node.ahead('web1')}")
    assert node.call("kc-promote", "web1").returncode == 0


@pytest.mark.parametrize(("vm", "times"), [("web1", 2), ("web2", 1)])
def test_promote_is_out_of_step_with_the_peer(node: FakeNode, vm: str, times: int) -> None:
    """Both trying, each would be refused by the other's try for as long as both go on."""
    node.answer("drbdadm", "primary", "exit 11")
    assert node.call("kc-promote", "--timeout", "0.6", vm).returncode == 1
    assert node.called() == [f"drbdadm primary {vm}"] * times


def test_promote_waits_until_the_heartbeat_saw_the_disk(node: FakeNode) -> None:
    """Demoted a moment ago: the heartbeat still says Primary, and QEMU would find a Secondary."""
    node.facts({"drbd/web1": "Connected Primary/Secondary UpToDate/UpToDate r"})
    done = node.call("kc-promote", "--timeout", "0.5", "web1")
    assert (done.returncode, node.called()) == (75, [])


def test_orphan_is_looked_at_again(node: FakeNode) -> None:
    node.drbd("web1", "Connected Primary/Secondary UpToDate/UpToDate r")
    node.facts({"local/running/web1": ""})
    assert node.call("kc-demote", "--orphan", "web1").returncode == 1
    assert node.called() == []
    node.facts({"local/running/web1": None, "local/stopped/web1": "yes 1"})
    assert node.call("kc-demote", "--orphan", "web1").returncode == 0
    assert node.called() == ["drbdadm secondary web1"]


def test_level_looks_at_the_kernel_again(node: FakeNode) -> None:
    node.drbd("web1", EVEN)
    node.facts({"peer/drbd/web1": EVEN})
    node.ahead("web1").touch()
    text = (node.base / "proc").read_text()
    (node.base / "proc").write_text(text.replace("Connected ro:Secondary/Secondary", "WFConnection ro:Primary/Unknown"))
    node.call("kc-failover")
    assert node.ahead("web1").exists()
    (node.base / "proc").write_text(text)
    node.call("kc-failover")
    assert not node.ahead("web1").exists()


def test_full_disk_keeps_no_other_vm_waiting(node: FakeNode) -> None:
    node.drbd("web2", "WFConnection Primary/Unknown UpToDate/Inconsistent r")
    (node.lib / "ahead").rmdir()
    (node.lib / "ahead").write_text("")                         # nothing can be written below it
    done = node.call("kc-failover")
    assert done.returncode == 0
    assert node.called() == ["systemctl --no-block start kc-vm@web1.service kc-vm@web2.service"]
    assert "ahead web2" in done.stderr


def test_stop_of_a_guest_whose_file_is_broken(node: FakeNode) -> None:
    (node.etc / "vm/web1.conf").write_text("nonsense")
    node.facts({"local/running/web1": ""})
    assert node.call("kc-vm-stop", "--direct", "web1").returncode == 0
    assert node.call("kc-vm-stop", "--ended", "web1", SERVICE_RESULT="success").returncode == 0
    assert not (node.run / "local/running/web1").exists()


def test_umask_of_root_hides_nothing(node: FakeNode) -> None:
    script = " ".join(["umask", "077;", "exec", *node.argv("kc-maintenance", "on")])
    subprocess.run(["/bin/sh", "-c", script], env=node.environment(), check=True, capture_output=True)
    assert (node.run / "local/maintenance").stat().st_mode & 0o777 == 0o644
    assert (node.run / "local").stat().st_mode & 0o777 == 0o755


def test_demote(node: FakeNode) -> None:
    assert node.call("kc-demote", "web1").returncode == 0
    assert node.called() == ["drbdadm secondary web1"]
    node.answer("drbdadm", "secondary", f"test -e {node.base}/closed && exit 0; touch {node.base}/closed; exit 11")
    assert node.call("kc-demote", "web1").returncode == 0
    node.answer("drbdadm", "secondary", "exit 11")
    assert node.call("kc-demote", "--timeout", "0.5", "web1").returncode == 124
    node.answer("drbdadm", "secondary", "exit 10")
    assert node.call("kc-demote", "web1").returncode == 69
    (node.base / "proc").write_text("version: 8.4.11\n")
    assert node.call("kc-demote", "web1").returncode == 0


GONE_ON = {"yields/web1": "", "peer/ahead/web1": "",
           "peer/drbd/web1": "WFConnection Primary/Unknown UpToDate/Outdated r"}


def test_outdate_disconnects_first_and_looks(node: FakeNode) -> None:
    node.facts(dict(GONE_ON))
    node.answer("drbdadm", "dstate", "echo Outdated/DUnknown")
    done = node.call("kc-outdate", "web1")
    assert done.returncode == 0
    assert node.called() == ["drbdadm disconnect --force web1", "drbdadm outdate web1", "drbdadm dstate web1",
                             "drbdadm connect web1"]
    node.answer("drbdadm", "dstate", "echo UpToDate/DUnknown")
    assert node.call("kc-outdate", "web1").returncode == 69
    node.answer("drbdadm", "dstate", "exit 10")
    assert node.call("kc-outdate", "web1").returncode == 69


@pytest.mark.parametrize("change", ["ahead", "primary", "no word", "peer connected", "peer silent"])
def test_outdate_never_spoils_the_newest_copy(node: FakeNode, change: str) -> None:
    facts: dict[str, str | None] = dict(GONE_ON)
    if change == "ahead":
        node.ahead("web1").touch()
    elif change == "primary":
        node.drbd("web1", FROZEN)
    elif change == "no word":
        facts["yields/web1"] = None
    elif change == "peer connected":
        facts["peer/drbd/web1"] = "Connected Primary/Secondary UpToDate/UpToDate r"
    else:
        node.links(DEAD)
    node.facts(facts)
    done = node.call("kc-outdate", "web1")
    assert (done.returncode, node.called()) == (107, [])


def test_outdate_from_stale_facts(node: FakeNode) -> None:
    node.facts({**GONE_ON, "alive": "1.0"})
    done = subprocess.run(node.argv("kc-outdate", "web1"), env=node.environment(), capture_output=True, text=True)
    assert (done.returncode, node.called()) == (75, []) and "silent" in done.stderr


def test_adjust(node: FakeNode) -> None:
    assert node.call("kc-adjust", "web1").returncode == 0
    assert node.called() == ["drbdadm adjust web1"]
    node.drbd("web1", FROZEN)
    node.call("kc-adjust", "web1")
    assert node.called() == ["drbdadm disconnect --force web1", "drbdadm adjust web1"]
    node.answer("drbdadm", "adjust", "exit 1")  # a disk that failed cannot be attached, and nothing after that is tried
    assert node.call("kc-adjust", "web1").returncode == 69
    assert node.called() == ["drbdadm disconnect --force web1", "drbdadm adjust web1", "drbdadm connect web1"]
    node.drbd("web1", "StandAlone Secondary/Unknown UpToDate/DUnknown r")
    (node.lib / "split-brain").mkdir()
    (node.lib / "split-brain/web1").touch()
    assert node.call("kc-adjust", "web1").returncode == 107
    assert node.called() == []


@pytest.mark.parametrize(("links", "line", "marks", "code"), [
    (DEAD, APART, {"even/web1": ""}, 5), (HEALTHY, APART, {"peer/yields/web1": ""}, 4), (HEALTHY, APART, {}, 1),
    (DEAD, "WFConnection Secondary/Unknown Consistent/DUnknown r", {}, 1), (ISOLATED, APART, {"even/web1": ""}, 1),
    (DEAD, FROZEN, {"even/web1": ""}, 5), (HEALTHY, FROZEN, {"peer/yields/web1": ""}, 4),
])
def test_fence_peer_answers(node: FakeNode, links: str, line: str, marks: dict[str, str | None], code: int) -> None:
    node.links(links)
    node.drbd("web1", line)
    node.facts(marks)
    done = node.call("kc-fence-peer", DRBD_RESOURCE="web1", DRBD_MINOR="10", DRBD_PEER="node2")
    assert done.returncode == code, done
    assert node.ahead("web1").exists() is (code != 1)
    assert not (node.base / "sysrq").exists()


def test_fence_peer_waits_for_the_word_and_claims(node: FakeNode) -> None:
    node.drbd("web1", FROZEN)
    node.beat()
    process = subprocess.Popen(node.argv("kc-fence-peer", "web1"), env=node.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while not (node.run / "claim/web1").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        node.beat()
        node.facts({"peer/yields/web1": ""})
        assert process.wait(5) == 4
        assert not (node.run / "claim/web1").exists()
        assert node.ahead("web1").exists()
    finally:
        process.kill()
        process.wait()


def test_fence_peer_ends_when_nothing_is_frozen_any_more(node: FakeNode) -> None:
    node.drbd("web1", FROZEN)
    process = subprocess.Popen(node.argv("kc-fence-peer", "web1"), env=node.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        node.drbd("web1", "Connected Primary/Secondary UpToDate/UpToDate r")
        assert process.wait(5) == 1
        assert not node.ahead("web1").exists()
    finally:
        process.kill()
        process.wait()


def test_overtaken_node_resets_itself(node: FakeNode) -> None:
    node.drbd("web1", FROZEN)
    node.facts({"peer/ahead/web1": ""})
    (node.base / "sysrq").touch()
    node.beat()
    process = subprocess.Popen(node.argv("kc-fence-peer", "web1"), env=node.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 5
        while (node.base / "sysrq").read_text() != "b":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(("links", "code"), [(DEAD, 5), (HEALTHY, 1)])
def test_fence_peer_as_the_kernel_starts_it(node: FakeNode, links: str, code: int) -> None:
    """Without any open file; seen on the real kernel, where it died at its first line to nobody."""
    node.links(links)
    node.drbd("web1", APART)
    node.facts({"even/web1": ""})
    node.beat()
    script = " ".join(["exec", *node.argv("kc-fence-peer", "web1"), "<&-", ">&-", "2>&-"])
    assert subprocess.run(["/bin/sh", "-c", script], env=node.environment()).returncode == code
    assert (node.lib / "ahead/web1").exists() is (code == 5)


def test_fence_peer_with_a_broken_installation_never_permits(node: FakeNode) -> None:
    node.links(DEAD)
    node.drbd("web1", APART)
    node.facts({"even/web1": ""})
    (node.etc / "kisscluster.conf").write_text("nonsense")
    assert node.call("kc-fence-peer", "web1").returncode not in (3, 4, 5, 6, 7)
    assert node.call("kc-fence-peer", DRBD_RESOURCE="../x").returncode not in (3, 4, 5, 6, 7)
    assert node.call("kc-fence-peer").returncode not in (3, 4, 5, 6, 7)


def test_vm_start_by_a_person_goes_through_systemctl(node: FakeNode) -> None:
    done = node.call("kc-vm-start", "web1")
    assert (done.returncode, node.called()) == (0, ["systemctl --no-block reset-failed kc-vm@web1.service",
                                                   "systemctl start kc-vm@web1.service"])
    node.facts({"local/stopped/web1": "yes 3", "local/failed/web1": ""})
    done = node.call("kc-vm-start", "web1")
    assert done.returncode == 0
    assert node.called() == ["systemctl --no-block reset-failed kc-vm@web1.service",
                             "systemctl start kc-vm@web1.service"]
    assert (node.run / "local/stopped/web1").read_text() == "no 4\n"
    assert not (node.run / "local/failed/web1").exists()


def test_vm_start_of_the_peers_vm_is_left_to_the_peer(node: FakeNode) -> None:
    done = node.call("kc-vm-start", "--timeout", "0.3", "web2")
    assert (done.returncode, node.called()) == (124, ["systemctl --no-block reset-failed kc-vm@web2.service"])
    node.facts({"peer/local/running/web2": ""})
    assert node.call("kc-vm-start", "web2").stdout == "vm=web2 running=node2\n"


def test_vm_start_direct_becomes_qemu(node: FakeNode) -> None:
    disk = node.base / "by-res/web1/0"
    disk.unlink()
    disk.touch()
    node.answer("ip", "-batch", f"cat > {node.base}/batch")
    me = pwd.getpwuid(os.geteuid()).pw_name                     # nobody but root could give anything away
    done = node.call("kc-vm-start", "--direct", "web1", KC_VM_USER=me)
    assert done.returncode == 0, done
    calls = node.called()
    assert [line.split()[0] for line in calls] == ["ip", "setpriv"]
    assert (node.base / "batch").read_text().splitlines() == [
        f"tuntap add dev web1.0 mode tap user {me}", "link set dev web1.0 master br0 up"]
    assert (node.run / "vm/web1").stat().st_mode & 0o777 == 0o750
    for text in ("qemu-system-x86_64", "-machine pc-q35-7.2,accel=kvm", "cache.direct=on", "virtio-scsi-pci",
                 "-sandbox on",
                 f"{node.base}/by-res/web1/0", f"path={node.run}/vm/web1/qmp", f"path={node.run}/vm/web1/monitor",
                 f"path={node.run}/vm/web1/serial", f"--reuid={me}", "ifname=web1.0"):
        assert text in calls[-1]
    assert (node.run / "local/running/web1").exists()


def test_vm_start_direct_clears_away_what_an_earlier_qemu_left(node: FakeNode) -> None:
    node.answer("ip", "-batch", f"test -e {node.base}/cleared || exit 1")
    node.answer("ip", "-force", f"cat > {node.base}/cleared")
    disk = node.base / "by-res/web1/0"
    disk.unlink()
    disk.touch()
    me = pwd.getpwuid(os.geteuid()).pw_name
    done = node.call("kc-vm-start", "--direct", "web1", KC_VM_USER=me)
    assert done.returncode == 0, done
    assert [line.split(" -")[0:2] for line in node.called()][:3] == [["ip", "batch"], ["ip", "force"], ["ip", "batch"]]
    assert (node.base / "cleared").read_text() == "link delete web1.0\n"
    node.answer("ip", "-batch", "exit 1")
    assert node.call("kc-vm-start", "--direct", "web1", KC_VM_USER=me).returncode == 69


@pytest.mark.parametrize(("disk", "device"), [("virtio", "virtio-blk-pci,drive=disk0"), ("scsi", "scsi-hd,bus=scsi.0"),
                                              ("ide", "ide-hd,bus=ide.0")])
def test_disk_kinds(node: FakeNode, disk: str, device: str) -> None:
    file = node.etc / "vm/web1.conf"
    file.write_text(file.read_text() + f"disk = {disk}\nclock = localtime\nextra = \"-device 'usb-ehci,id=a b'\"\n")
    lines = node.call("kc-vm-start", "--direct", "--dry-run", "web1").stdout.splitlines()
    assert lines[:2] == [f"install -d -m 0750 -o _kisscluster-vm -g _kisscluster-vm {node.run}/vm/web1",
                         f"chown _kisscluster-vm {node.base}/by-res/web1/0"]
    assert "--reuid=_kisscluster-vm" in lines[-1]
    assert device in lines[-1] and "base=localtime" in lines[-1]
    assert lines[-1].endswith("-device pvpanic -action panic=exit-failure -device 'usb-ehci,id=a b'")
    assert node.called() == []


def test_watchdog_comes_after_the_network_cards(node: FakeNode) -> None:
    file = node.etc / "vm/web1.conf"
    file.write_text(file.read_text() + "watchdog = yes\n")
    line = node.call("kc-vm-start", "--direct", "--dry-run", "web1").stdout.splitlines()[-1]
    assert line.endswith("romfile= -device pvpanic -action panic=exit-failure -device i6300esb -action watchdog=reset")
    file.write_text(file.read_text().replace("yes", "perhaps"))
    done = node.call("kc-vm-start", "--direct", "web1")
    assert done.returncode == 78 and "key watchdog, value 'perhaps': expected no or yes" in done.stderr


def test_vm_start_direct_without_a_disk(node: FakeNode) -> None:
    (node.base / "by-res/web1/0").unlink()
    done = node.call("kc-vm-start", "--direct", "web1")
    assert done.returncode == 69
    assert "setpriv" not in " ".join(node.called())


def test_vm_stop_keeps_it_stopped(node: FakeNode) -> None:
    node.facts({"local/running/web1": ""})
    node.answer("systemctl", "stop", f"rm {node.run}/local/running/web1")
    done = node.call("kc-vm-stop", "web1")
    assert (done.returncode, node.called()) == (0, ["systemctl stop kc-vm@web1.service",
                                                   "systemctl --no-block reset-failed kc-vm@web1.service"])
    assert "kc-vm-start web1" in done.stderr
    assert (node.lib / "words/stopped/web1").read_text() == "yes 1\n"
    assert node.call("kc-failover").returncode == 0
    assert "kc-vm@web1" not in " ".join(node.called())


def test_guest_that_switched_itself_off_stays_off(node: FakeNode) -> None:
    node.facts({"local/running/web1": ""})
    ended = {"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"}
    assert node.call("kc-vm-stop", "--direct", "web1", **ended).returncode == 0       # systemd's ExecStop=
    assert node.call("kc-vm-stop", "--ended", "web1", **ended).returncode == 0
    assert not (node.run / "local/running/web1").exists()
    node.call("kc-failover")
    assert "kc-vm@web1" not in " ".join(node.called())
    node.call("kc-vm-start", "web1")
    assert node.called()[-1] == "systemctl start kc-vm@web1.service"


def test_crashed_guest_is_left_to_systemd(node: FakeNode) -> None:
    node.facts({"local/running/web1": ""})
    assert node.call("kc-vm-stop", "--ended", "web1", SERVICE_RESULT="signal").returncode == 0
    assert (node.run / "local/running/web1").exists()
