"""What kc-heartbeat sees, on real interfaces."""

import subprocess
import sys
import time

import pytest

from tests.net.hearts import NODES, PRODUCTION, STORAGE, Hearts, wait

APART = " 10: cs:WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown C r-----\n"


@pytest.fixture
def healthy(hearts: Hearts) -> Hearts:
    hearts.start()
    hearts.settled()
    return hearts


def await_fact(hearts: Hearts, node: str, name: str, value: str) -> None:
    wait(lambda: hearts.fact(node, name) == value, 5, f"{name}={value} on {node}")


def test_healthy_pair_is_even(healthy: Hearts) -> None:
    for node in NODES:
        wait(lambda: all(healthy.path(node, "even/web1").exists() for node in NODES), 5, "even on both")
        assert healthy.read(node, "drbd/web1") == "Connected Secondary/Secondary UpToDate/UpToDate r"
        wait(lambda: all(healthy.path(node, "peer/drbd/web1").exists() for node in NODES), 5, "the peer's word on both")


@pytest.mark.parametrize("direction", ["in", "out"])
def test_one_way_link_is_down_on_both_sides(healthy: Hearts, direction: str) -> None:
    healthy.net.silence("node1", "storage", True, direction)  # type: ignore[arg-type]
    for node in NODES:
        await_fact(healthy, node, "storage", "down")
        assert healthy.fact(node, "production") == "up"
    healthy.net.silence("node1", "storage", False)
    for node in NODES:
        await_fact(healthy, node, "storage", "up")


def cut_off(healthy: Hearts, node: str) -> None:
    """Packets vanish, and both kernels see it."""
    for network in ("production", "storage"):
        healthy.net.silence(node, network, True)
    for each in NODES:
        healthy.drbd(each, APART)


DEAD = "storage=down production=down ping=up trace=down unbroken=yes steady=yes starting=no"


def test_silent_peer_is_dead_after_deadtime(healthy: Hearts) -> None:
    wait(lambda: healthy.read("node2", "even/web1") is not None, 5, "even")
    cut_off(healthy, "node1")
    cut = time.monotonic()
    wait(lambda: healthy.read("node2", "links") == DEAD, 4, "dead")
    assert 1.0 <= time.monotonic() - cut <= 1.8
    assert healthy.read("node2", "even/web1") is not None
    assert healthy.run("node2", "kc-quorum").stdout.startswith("decision=all")
    # the isolated one has no quorum, and knows that it may have missed something
    wait(lambda: healthy.fact("node1", "ping") == "down", 4, "isolated")
    assert healthy.fact("node1", "unbroken") == "no"
    done = healthy.run("node1", "kc-quorum")
    assert (done.returncode, done.stdout.split()[0]) == (106, "decision=hold")


def test_connected_drbd_is_a_trace(healthy: Hearts) -> None:
    for network in ("production", "storage"):
        healthy.net.silence("node1", network, True)
    await_fact(healthy, "node2", "production", "down")
    await_fact(healthy, "node2", "ping", "up")
    assert healthy.fact("node2", "trace") == "up"


def test_killed_heartbeat_leaves_a_trace(healthy: Hearts) -> None:
    healthy.kill("node1")
    await_fact(healthy, "node2", "storage", "down")
    await_fact(healthy, "node2", "production", "down")
    assert healthy.fact("node2", "trace") == "up"
    assert healthy.run("node2", "kc-quorum").stdout.startswith("decision=home")


def test_own_standstill_is_noticed(healthy: Hearts) -> None:
    daemon = healthy.daemons["node1"]
    daemon.send_signal(19)
    wait(lambda: healthy.fact("node2", "production") == "down", 4, "silent")
    daemon.send_signal(18)
    wait(lambda: healthy.fact("node1", "starting") == "yes", 2, "a standstill is a start")
    healthy.settled()


def test_restarted_peer_is_heard_again(healthy: Hearts) -> None:
    boot = healthy.read("node2", "peer/boot")
    healthy.kill("node1")
    healthy.start("node1")
    wait(lambda: healthy.read("node2", "peer/boot") not in (None, boot), 5, "new start heard")
    healthy.settled()


def test_killed_ten_times_nobody_is_dead(healthy: Hearts) -> None:
    for _ in range(10):
        healthy.kill("node1")
        healthy.start("node1")
        assert healthy.fact("node2", "trace") == "up"
    done = healthy.run("node2", "kc-quorum")
    assert done.stdout.startswith("decision=home"), done.stdout
    healthy.settled()


def ip(hearts: Hearts, node: str, *arguments: str) -> None:
    subprocess.run(["ip", "-n", node, *arguments], check=True)


def test_interface_that_loses_its_address_and_appears_late(hearts: Hearts) -> None:
    ip(hearts, "node1", "address", "del", f"{PRODUCTION['node1']}/24", "dev", "br0")
    ip(hearts, "node1", "address", "del", f"{STORAGE['node1']}/24", "dev", "stor")
    try:
        hearts.start()
        wait(lambda: hearts.read("node1", "links") is not None, 5, "runs without any address")
        ip(hearts, "node1", "address", "add", f"{STORAGE['node1']}/24", "dev", "stor")
        wait(lambda: hearts.fact("node1", "storage") == "up", 5, "storage address appeared")
    finally:
        ip(hearts, "node1", "address", "replace", f"{STORAGE['node1']}/24", "dev", "stor")
        ip(hearts, "node1", "address", "replace", f"{PRODUCTION['node1']}/24", "dev", "br0")
    hearts.settled()
    ip(hearts, "node1", "address", "del", f"{PRODUCTION['node1']}/24", "dev", "br0")
    try:
        await_fact(hearts, "node1", "production", "down")
        await_fact(hearts, "node1", "ping", "down")
    finally:
        ip(hearts, "node1", "address", "add", f"{PRODUCTION['node1']}/24", "dev", "br0")
    hearts.settled()


def test_garbage_at_full_rate(healthy: Hearts) -> None:
    """From the peer's own address and port, on both networks, for three seconds."""
    flood = (
        "import os,socket,sys,time\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "end=time.monotonic()+3\n"
        "junk=[b'KCH1'+os.urandom(n) for n in (0,1,40,200,1400)]\n"
        "while time.monotonic()<end:\n"
        "  for j in junk: s.sendto(j,(sys.argv[1],5324))\n")
    command = ["nsenter", "--net=/run/netns/switch", sys.executable, "-c", flood, PRODUCTION["node1"]]
    flooding = subprocess.Popen(command)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert healthy.fact("node1", "production") == "up"
        assert healthy.fact("node2", "production") == "up"
        time.sleep(0.05)
    assert flooding.wait() == 0
    assert b"dropped datagrams" in healthy.kill("node1")


def test_replayed_and_forged_datagrams_are_no_life(healthy: Hearts) -> None:
    """What was recorded on the wire does not keep a dead peer alive."""
    record = (
        "import socket,sys,time\n"
        "s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3)); s.bind(('node2-stor',0)); s.settimeout(2)\n"
        "frames=[]\n"
        "end=time.monotonic()+1\n"
        "while time.monotonic()<end:\n"
        "  f,a=s.recvfrom(9000)\n"
        "  if b'KCH1' in f and a[2]==4: frames.append(f)\n"
        "print(len(frames),flush=True); input()\n"
        "end=time.monotonic()+2.5\n"
        "while time.monotonic()<end:\n"
        "  for f in frames: s.send(f)\n"
        "  time.sleep(0.02)\n")
    recorder = subprocess.Popen(["nsenter", "--net=/run/netns/switch", sys.executable, "-c", record],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert recorder.stdout is not None and recorder.stdin is not None
    assert int(recorder.stdout.readline()) > 5
    cut_off(healthy, "node1")
    recorder.stdin.write("\n")
    recorder.stdin.flush()
    wait(lambda: healthy.fact("node2", "storage") == "down", 2, "a replay is no life")
    assert recorder.wait() == 0
    assert healthy.fact("node2", "storage") == "down"


def test_full_run(healthy: Hearts) -> None:
    """No space: nothing is lost but freshness, and all is well again when there is some."""
    run = healthy.path("node1", "")
    healthy.kill("node1")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(run)], check=True)
    try:
        filler = run / "filler"
        with open(filler, "wb", buffering=0) as stream:
            try:
                while stream.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        healthy.start("node1")
        wait(lambda: healthy.fact("node2", "production") == "up", 6, "it speaks though it cannot write")
        assert healthy.run("node1", "kc-promote", "web1").returncode == 69 or not healthy.read("node1", "alive")
        filler.unlink()
        wait(lambda: healthy.fact("node1", "production") == "up", 6, "it writes again")
    finally:
        healthy.kill("node1")
        subprocess.run(["umount", str(run)], check=True)
