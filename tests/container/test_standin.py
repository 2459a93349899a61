"""The stand-in for DRBD between two real nodes: commands, packets, handlers, frozen disks."""

from __future__ import annotations

import time

from tests.lab.container import ContainerPair

DEVICE = "/dev/drbd/by-res/web1/0"
QEMU = (
    "mkdir -p /run/kisscluster/vm/web1; exec setsid qemu-system-x86_64 -m 32 -accel tcg -display none -nodefaults"
    f" -blockdev driver=raw,node-name=d0,file.driver=file,file.filename={DEVICE},cache.direct=on,file.aio=native"
    " -device ide-hd,drive=d0 -serial unix:/run/kisscluster/vm/web1/serial,server=on,wait=off"
    " </dev/null >/qemu.log 2>&1")


def drbd(pair: ContainerPair, node: str, command: str) -> int:
    """drbdadm COMMAND web1; its exit code."""
    return pair.run(node, f"drbdadm {command} web1", check=False).returncode


def line(pair: ContainerPair, node: str) -> str:
    """The line of web1 in /proc/drbd, from its connection to its flag."""
    text = pair.run(node, "grep 10: $KC_PROC_DRBD").stdout
    words = [word.partition(":")[2] or word for word in text.split()[1:]]
    return " ".join([*words[:3], words[-1][0]])


def becomes(pair: ContainerPair, node: str, expected: str, timeout: float = 6) -> float:
    """Wait until a node shows that line."""
    return pair.wait(lambda: expected in line(pair, node), timeout, f"{node}: {expected}")


def answer(pair: ContainerPair, node: str, handler: str) -> None:
    """What the fence-peer handler of a node will do."""
    pair.write(node, "/etc/fence-answer", handler)


def start_guest(pair: ContainerPair, node: str) -> None:
    """Promote a node and run the guest there."""
    assert drbd(pair, node, "primary") == 0
    pair.run(node, f"( {QEMU} ) & true")
    start = time.monotonic()
    pair.wait(lambda: pair.dots("web1").after(start, node), 20, f"the guest prints on {node}")


def test_commands(lab: ContainerPair) -> None:
    """Roles, refusals, exit codes and what the device does with an opener."""
    assert line(lab, "node1") == "Connected Secondary/Secondary UpToDate/UpToDate r"
    for opener, error in (("head -c1", "Wrong medium type"), ("exec 3<>", "Read-only file system")):
        assert error in lab.run("node1", f"LC_ALL=C bash -c '{opener} {DEVICE}'", check=False).stderr
    assert [drbd(lab, "node2", verb) for verb in ("outdate", "secondary", "adjust", "up")] == [0, 0, 0, 1]
    assert drbd(lab, "node1", "primary") == 0
    assert line(lab, "node2") == "Connected Secondary/Primary UpToDate/UpToDate r"
    assert [drbd(lab, "node2", verb) for verb in ("primary", "connect", "primary --force")] == [11, 10, 11]
    lab.run("node1", f"setsid sleep 60 < {DEVICE} > /dev/null 2>&1 & echo")
    assert [drbd(lab, "node1", verb) for verb in ("secondary", "down")] == [11, 11]
    lab.run("node1", "pkill sleep")
    lab.wait(lambda: drbd(lab, "node1", "secondary") == 0, 2, "nobody has it open")
    assert lab.run("node1", "drbdadm role web1; drbdadm cstate web1; drbdadm dstate web1").stdout.split() == [
        "Secondary/Secondary", "Connected", "UpToDate/UpToDate"]
    plain = lab.run("node1", "drbdadm sh-resources; drbdadm sh-dev web1").stdout
    assert plain.split() == ["web1", "web2", "/dev/drbd10"]
    assert [drbd(lab, "node1", verb) for verb in ("down", "down", "primary", "role", "nonsense")] == [0, 0, 10, 10, 1]
    assert lab.run("node1", "drbdadm dstate web1").stdout.strip() == "Consistent"


def test_storage_lost_handler_answers_and_resync(lab: ContainerPair) -> None:
    """Frozen until the handler says 5; the other is refused, then resynced, and no write is lost."""
    start_guest(lab, "node1")
    answer(lab, "node1", "sleep 1; exit 5")
    lab.silence("node1", "storage", True)
    noticed = [becomes(lab, node, "WFConnection") for node in ("node2", "node1")]
    assert sum(noticed) < 3.5
    assert line(lab, "node1") == "WFConnection Primary/Unknown UpToDate/DUnknown s"
    frozen = len(lab.dots("web1"))
    assert lab.wait(lambda: len(lab.dots("web1")) > frozen, 3, "the guest goes on") > 0.3
    becomes(lab, "node1", "Primary/Unknown UpToDate/Outdated r")
    assert drbd(lab, "node2", "primary") == 11
    assert drbd(lab, "node2", "outdate") == 0
    assert drbd(lab, "node2", "primary") == 17
    assert lab.counter("node1", "web1") > lab.counter("node2", "web1")
    lab.silence("node1", "storage", False)
    becomes(lab, "node2", "SyncTarget Secondary/Primary Inconsistent/UpToDate")
    becomes(lab, "node2", "Connected Secondary/Primary UpToDate/UpToDate")
    lab.power_off("node1")
    assert lab.counter("node2", "web1") >= len(lab.dots("web1"))


def test_promotion_after_a_power_loss(lab: ContainerPair) -> None:
    """The first try finds out that the peer is dead, the next succeeds; the dead node comes back as the target."""
    start_guest(lab, "node1")
    answer(lab, "node2", "exit 5")
    lab.power_off("node1")
    dots = len(lab.dots("web1"))
    tries = [drbd(lab, "node2", "primary") for _ in range(2)]
    assert tries in ([11, 0], [0, 0])  # 0 at once only if so slow that the loss was noticed before
    assert line(lab, "node2") == "WFConnection Primary/Unknown UpToDate/Outdated r"
    assert lab.counter("node2", "web1") >= dots
    lab.power_on("node1")
    assert drbd(lab, "node1", "adjust") == 0
    becomes(lab, "node1", "Connected Secondary/Primary UpToDate/UpToDate")
    assert lab.counter("node1", "web1") == lab.counter("node2", "web1")


def test_overtaken_node_wakes(lab: ContainerPair) -> None:
    """It stays frozen, its QEMU cannot be killed, and only a reset helps."""
    start_guest(lab, "node1")
    answer(lab, "node2", "exit 7")
    lab.pause("node1")
    becomes(lab, "node2", "WFConnection")
    dots = len(lab.dots("web1"))
    assert drbd(lab, "node2", "primary") == 0
    lab.resume("node1")
    becomes(lab, "node1", "WFConnection Primary/Unknown UpToDate/DUnknown s")
    becomes(lab, "node2", "StandAlone Primary/Unknown")
    assert len(lab.dots("web1")) == dots
    lab.run("node1", "pkill -9 qemu", check=False)
    time.sleep(0.3)
    assert drbd(lab, "node1", "secondary") == 11
    assert "qemu" in lab.run("node1", "ps ax -o comm").stdout
    boots = lab.nodes["node1"].boots
    lab.run("node1", "echo b > $KC_SYSRQ", check=False)
    lab.wait(lambda: lab.nodes["node1"].boots > boots, 10, "node1 is reset")
    assert drbd(lab, "node1", "adjust") == 0
    assert line(lab, "node1") == "WFConnection Secondary/Unknown Consistent/DUnknown r"
    assert drbd(lab, "node2", "connect") == 0
    becomes(lab, "node1", "Connected Secondary/Primary UpToDate/UpToDate")


def test_graceful_disconnect(lab: ContainerPair) -> None:
    """A Secondary that leaves a Primary knows that it will be stale."""
    assert drbd(lab, "node1", "primary") == 0
    assert drbd(lab, "node2", "disconnect") == 0
    becomes(lab, "node2", "StandAlone Secondary/Unknown Outdated/DUnknown")
    becomes(lab, "node1", "WFConnection Primary/Unknown UpToDate/Outdated r")
    assert [drbd(lab, "node2", verb) for verb in ("disconnect", "connect")] == [10, 0]
    becomes(lab, "node2", "Connected Secondary/Primary UpToDate/UpToDate")


def test_split_brain(lab: ContainerPair) -> None:
    """Both were promoted and wrote: apart until one gives up its data."""
    lab.silence("node1", "storage", True)
    for node in ("node1", "node2"):
        answer(lab, node, "exit 5")
        becomes(lab, node, "WFConnection")
        assert drbd(lab, node, "primary") == 0
        lab.run(node, f"echo {node} | dd of={DEVICE} bs=512 seek=9 conv=notrunc,sync")
        assert drbd(lab, node, "secondary") == 0
    lab.silence("node1", "storage", False)
    for node in ("node1", "node2"):
        becomes(lab, node, "StandAlone")
    assert drbd(lab, "node1", "connect --discard-my-data") == 0
    assert drbd(lab, "node2", "connect") == 0
    becomes(lab, "node1", "Connected Secondary/Secondary UpToDate/UpToDate")
    assert drbd(lab, "node1", "primary") == 0
    assert "node2" in lab.run("node1", f"dd if={DEVICE} bs=512 skip=9 count=1").stdout


def test_two_primaries_and_back(lab: ContainerPair) -> None:
    """The migration window: set on one side, valid on both."""
    assert drbd(lab, "node1", "primary") == 0
    assert drbd(lab, "node1", "net-options --allow-two-primaries=yes") == 0
    lab.wait(lambda: drbd(lab, "node2", "primary") == 0, 2, "node2 is primary, too")
    lab.run("node1", f"echo both | dd of={DEVICE} bs=512 seek=9 conv=notrunc,sync")
    assert "both" in lab.run("node2", f"dd if={DEVICE} bs=512 skip=9 count=1").stdout
    assert drbd(lab, "node1", "net-options --allow-two-primaries=no") == 10
    assert drbd(lab, "node1", "secondary") == 0
    assert drbd(lab, "node1", "adjust") == 0
    assert drbd(lab, "node1", "primary") == 11


def test_local_address_gone(lab: ContainerPair) -> None:
    """DRBD gives up, and adjust refuses until the address is back."""
    lab.run("node2", "ip address del 10.0.0.2/24 dev stor")
    becomes(lab, "node2", "StandAlone", 8)
    done = lab.run("node2", "drbdadm adjust web1", check=False)
    assert (done.returncode, "not found on this host" in done.stderr) == (10, True)
    lab.run("node2", "ip address add 10.0.0.2/24 dev stor")
    assert drbd(lab, "node2", "adjust") == 0
    becomes(lab, "node2", "Connected")


def test_first_sync_can_be_skipped(lab: ContainerPair) -> None:
    """create-md on both, then new-current-uuid on one."""
    for node in ("node1", "node2"):
        assert [drbd(lab, node, verb) for verb in ("down", "create-md", "create-md --force")] == [0, 1, 0]
    for node in ("node1", "node2"):
        assert drbd(lab, node, "adjust") == 0
    becomes(lab, "node1", "Connected Secondary/Secondary Inconsistent/Inconsistent")
    assert lab.run("node1", "drbdadm new-current-uuid --clear-bitmap web1/0").returncode == 0
    becomes(lab, "node2", "Connected Secondary/Secondary UpToDate/UpToDate")


def test_handler_environment(lab: ContainerPair) -> None:
    """What drbdadm gives to a handler."""
    answer(lab, "node1", "env > /tmp/handler; exit 5")
    assert drbd(lab, "node1", "primary") == 0
    lab.power_off("node2")
    becomes(lab, "node1", "UpToDate/Outdated")
    environment = set(lab.read("node1", "/tmp/handler").splitlines())
    assert environment >= {"DRBD_RESOURCE=web1", "DRBD_MINOR=10", "DRBD_PEER=node2", "DRBD_PEERS=node2",
                           "DRBD_PEER_ADDRESS=10.0.0.2", "DRBD_PEER_AF=ipv4", "DRBD_CONF=/etc/drbd.conf",
                           "HOME=/", "TERM=linux"}
