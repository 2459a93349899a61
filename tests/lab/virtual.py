"""The virtual pair: two QEMU machines with the real kernel and real DRBD, booted, or restored in seconds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.lab import build, isolate, net, package, pair, setup
from tests.lab.pair import NETWORKS, NODES, VMS, Dots, Network
from tests.lab.say import LabError, say
from tests.lab.virtual_image import Base, base, root_disk, run
from tests.lab.virtual_node import CMDLINE, Qemu, accelerator, command_line, machine

GUEST_MIB = 4
DISKS = {vm: f"/dev/vd{'bcdefg'[position]}" for position, vm in enumerate(VMS)}
BOOT = 120.0
KEEP = 86400.0
STATE = "memory"
DOTS = "dots"
SWITCH_MAC = "52:54:00:00:01:fe"  # restored nodes know the switch of their past
STEADY = {"storage=up", "production=up", "ping=up", "trace=up", "unbroken=yes", "steady=yes"}
STORY = (
    "kc-status; cat /run/kisscluster/links /proc/drbd; systemctl --failed --no-legend; "
    "journalctl -b -n 80 --no-pager"
)


class VirtualPair:
    """Two nodes; see pair.Pair. Whatever they write lies in memory and vanishes with this process."""

    disks: tuple[str, ...] = tuple(VMS)

    def __init__(self, snapshot: Path | None = None, deb: Path | None = None) -> None:
        self.base = base()
        self.snapshot = snapshot
        self.root = snapshot or self._root(deb)
        self.directory = _memory_disk()
        self.net = net.Net("virtual")
        isolate.on_exit(self.close)
        net.ip("link", "set", "prod", "address", SWITCH_MAC, netns=self.net.netns)
        self.printed: dict[str, Dots] = defaultdict(Dots)
        self.before: dict[str, int] = json.loads((snapshot / DOTS).read_text()) if snapshot else dict.fromkeys(VMS, 0)
        self.taps = {node: {network: self.net.plug_tap(node, network) for network in NETWORKS} for node in NODES}
        self.machines: dict[str, Qemu] = {}
        self.unplugged: set[tuple[str, Network]] = set()
        self.started = dict.fromkeys(NODES, 0)
        try:
            for node in NODES:
                self._make_disks(node)
                self._start(node, restore=snapshot is not None)
            self._settle()
        except BaseException:
            self.close()
            raise

    def _root(self, deb: Path | None) -> Path:
        return root_disk(self.base, deb)

    @staticmethod
    def _make_disk(path: Path) -> None:
        path.write_bytes(setup.guest_disk(GUEST_MIB))

    def _make_disks(self, node: str) -> None:
        directory = self.directory / node
        directory.mkdir()
        frozen = self.snapshot / node if self.snapshot else None
        below, kind = (frozen / "root.qcow2", "qcow2") if frozen else (self.root, "raw")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", kind, directory / "root.qcow2")
        for name in self.disks:
            if frozen:
                shutil.copy(frozen / f"{name}.raw", directory)
            else:
                self._make_disk(directory / f"{name}.raw")

    def _start(self, node: str, restore: bool = False) -> None:
        directory = self.directory / node
        disks = [directory / "root.qcow2", *(directory / f"{name}.raw" for name in self.disks)]
        command = command_line(node, NODES.index(node) + 1, directory, self.base, disks, self.taps[node])
        if restore and self.snapshot:
            command += ["-S", "-incoming", f"exec:cat {self.snapshot / node / STATE}"]
        self.machines[node] = Qemu(node, directory, self.net.enter(*command), self._dots_of(node))
        self.started[node] += 1
        for network in NETWORKS:
            if (node, network) in self.unplugged:
                self.cable(node, network, False)

    def _dots_of(self, node: str) -> Callable[[str, int], None]:
        return lambda vm, count: self.printed[vm].add(node, count)

    def _settle(self) -> None:
        """Let both nodes run at the same moment, and wait until both answer."""
        for node in NODES:
            pair.wait(partial(_loaded, self.machines[node]), 60, f"memory of {node}")
        for node in NODES:
            self.machines[node].qmp("cont")
        for node in NODES:
            self._wait_for_agent(node)
        if self.snapshot:
            for node in NODES:
                self.run(node, f"date -s @{time.time():.3f}")

    def _wait_for_agent(self, node: str) -> None:
        self.wait(self.machines[node].answers, BOOT, f"{node} answers")

    def booted(self, node: str) -> None:
        """Wait until a node has finished its boot."""
        self._wait_for_agent(node)
        self.run(node, "systemctl is-system-running --wait", timeout=BOOT, check=False)

    def run(self, node: str, command: str, timeout: float = 30, check: bool = True
            ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root inside a node."""
        done = self.machines[node].run(command, timeout)
        if check and done.returncode:
            raise AssertionError(f"{node}: {command}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def both(self, command: str, timeout: float = 60) -> list[str]:
        """Run a command on both nodes at the same time; what they said."""
        with ThreadPoolExecutor(len(NODES)) as pool:
            return [done.stdout for done in pool.map(lambda node: self.run(node, command, timeout), NODES)]

    def write(self, node: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside a node."""
        done = self.machines[node].run(f"umask 077; cat > {path} && chmod {mode:o} {path}", 30, text)
        if done.returncode:
            raise AssertionError(f"{node}: cannot write {path}: {done.stderr}")

    def read(self, node: str, path: str) -> str:
        """Read a file inside a node."""
        return self.run(node, f"cat {path}").stdout

    def power_off(self, node: str) -> None:
        """Pull the plug."""
        qemu = self.machines.pop(node)
        qemu.kill()
        self.started[node] += qemu.resets

    def power_on(self, node: str) -> None:
        """Boot again; returns when commands can be run."""
        self._start(node)
        self._wait_for_agent(node)

    def is_on(self, node: str) -> bool:
        """Has it power?"""
        return node in self.machines and self.machines[node].process.poll() is None

    def boots(self, node: str) -> int:
        """How often it began to boot since this pair is here."""
        return self.started[node] + (self.machines[node].resets if node in self.machines else 0)

    def pause(self, node: str) -> None:
        """The whole node stands still, its clocks too."""
        self.machines[node].qmp("stop")

    def resume(self, node: str) -> None:
        """It goes on as if nothing had been."""
        self.machines[node].qmp("cont")

    def cable(self, node: str, network: Network, up: bool) -> None:
        """Pull a cable out (the node sees its carrier go) or put it back; a node that is off finds it so."""
        (self.unplugged.discard if up else self.unplugged.add)((node, network))
        if node in self.machines:
            self.machines[node].qmp("set_link", name=f"nic-{network}", up=up)

    def silence(self, node: str, network: Network, on: bool) -> None:
        """Packets of that link vanish without a trace, or do not any more."""
        self.net.silence(node, network, on)

    def switch(self, up: bool) -> None:
        """The production switch dies or comes back."""
        self.net.switch(up)

    def fail_disk(self, node: str, vm: str, failed: bool, empty: bool = False) -> None:
        """Every read and write of it fails; a disk in order is attached again, as a person would."""
        self.machines[node].fail_disk(vm, failed)
        if empty:
            with (self.directory / node / f"{vm}.raw").open("r+b") as disk:
                disk.write(bytes(GUEST_MIB << 20))
            self.run(node, f"drbdadm create-md --force {vm}")
        if not failed:
            self.run(node, f"drbdadm attach {vm}")

    def dots(self, vm: str) -> Dots:
        """What a guest printed so far."""
        return self.printed[vm]

    def acknowledged(self, vm: str) -> int:
        """How many writes a guest was told are on disk; no copy that anybody uses may know of fewer."""
        return self.before[vm] + len(self.printed[vm])

    def counter(self, node: str, vm: str) -> int:
        """The counter on that node's copy of the guest's disk, in whatever state the node is."""
        with (self.directory / node / f"{vm}.raw").open("rb") as disk:
            return setup.count_on(disk.read(1024))

    def wait(self, predicate: Callable[[], object], timeout: float, what: str) -> float:
        """Wait until a predicate holds."""
        return pair.wait(predicate, timeout, what)

    def freeze(self, target: Path) -> None:
        """Save both nodes as they are at one moment, connections between them included; ends this pair."""
        for qemu in self.machines.values():
            qemu.qmp("stop")
        for node, qemu in self.machines.items():
            (target / node).mkdir()
            qemu.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
            qemu.qmp("migrate", uri=f"exec:cat > {target / node / STATE}")
        for node, qemu in self.machines.items():
            pair.wait(partial(_migrated, qemu), 120, f"memory of {node} saved")
            qemu.quit()
            for disk in ("root.qcow2", *(f"{name}.raw" for name in self.disks)):
                run("cp", "--sparse=always", self.directory / node / disk, target / node)
        (target / DOTS).write_text(json.dumps({vm: self.acknowledged(vm) for vm in VMS}))
        self.close()

    def close(self) -> None:
        """Leave nothing behind."""
        isolate.forget(self.close)
        for node in list(self.machines):
            self.power_off(node)
        for taps in self.taps.values():
            for tap in taps.values():
                net.ip("link", "delete", tap, netns=self.net.netns, check=False)
        self.net.close()
        if self.directory.is_mount():
            run("umount", "-l", self.directory)


def _loaded(qemu: Qemu) -> bool:
    return bool(qemu.qmp("query-status")["status"] != "inmigrate")


def _migrated(qemu: Qemu) -> bool:
    status = qemu.qmp("query-migrate").get("status")
    if status == "failed":
        raise LabError(f"the memory of {qemu.name} could not be saved")
    return bool(status == "completed")


def _memory_disk() -> Path:
    """A directory in memory that only this process sees: it dies with us, and fsync costs nothing."""
    isolate.enter()
    directory = build.lab_dir() / "virtual-run"
    directory.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=0700,size=75%", "lab", directory)
    return directory


def configure(nodes: VirtualPair, **changes: object) -> None:
    """Write the configuration, make both copies of every guest's disk equal, and bring DRBD up."""
    each = f"for vm in {' '.join(VMS)}; do"
    setup.write_config(nodes, DISKS, **changes)
    nodes.both(f"{each} drbdadm create-md --force $vm && drbdadm up $vm || exit; done")
    connected = f"{each} test $(drbdadm cstate $vm) = Connected || exit; done"
    nodes.wait(lambda: nodes.run(NODES[0], connected, check=False).returncode == 0, 30, "DRBD connected")
    nodes.run(NODES[0], f"{each} drbdadm new-current-uuid --clear-bitmap $vm/0 || exit; done")
    nodes.wait(lambda: all(all_up_to_date(nodes, node) for node in NODES), 20, "both copies UpToDate")


def all_up_to_date(nodes: VirtualPair, node: str) -> bool:
    """Does DRBD on that node see every guest's two copies good and connected?"""
    text = nodes.read(node, "/proc/drbd")
    return text.count("cs:Connected") == len(VMS) == text.count("ds:UpToDate/UpToDate")


def start(nodes: VirtualPair) -> None:
    """Start the cluster on both nodes and wait until every guest counts at home."""
    nodes.both("systemctl enable --now kisscluster.target")
    for vm in VMS:
        nodes.wait(partial(counts, nodes, vm, VMS[vm].home), 90, f"{vm} counts on {VMS[vm].home}")


def counts(nodes: VirtualPair, vm: str, node: str) -> bool:
    """Did that guest print something on that node within the last second?"""
    return bool(nodes.dots(vm).after(time.monotonic() - 1, node))


def settled(nodes: VirtualPair) -> bool:
    """Does every guest count at home, and is each node ready to lose the other at this moment?

    Restored nodes go on some tenths of a second apart, and DRBD may have lost its peer for a moment.
    """
    marks = "cd /run/kisscluster" + "".join(f" && test -e even/{vm} -a ! -e yields/{vm}" for vm in VMS)
    return all(counts(nodes, vm, VMS[vm].home) for vm in VMS) and all(
        is_steady(nodes, node) and all_up_to_date(nodes, node)
        and nodes.run(node, marks, check=False).returncode == 0 for node in NODES)


def restored(snapshot: Path) -> VirtualPair:
    """The pair of a snapshot, in seconds, ready for whatever is to happen to it."""
    nodes = VirtualPair(snapshot)
    try:
        # each look keeps a node from settling
        pair.wait(lambda: settled(nodes), 60, "the restored pair has settled", 0.5)
    except BaseException as error:
        if isinstance(error, AssertionError):
            say(story(nodes))
        nodes.close()
        raise
    return nodes


def ready(**changes: object) -> Path:
    """A snapshot of a healthy pair whose guests count, built once for each state of the sources."""
    debian, deb = base(), package.deb()
    root = root_disk(debian, deb)
    code = [Path(module.__file__).read_bytes() for module in (setup, pair) if module.__file__]
    code += [Path(__file__).with_name(name).read_bytes() for name in ("virtual.py", "virtual_node.py")]
    parts = [str(root), CMDLINE, *machine(accelerator(debian)), repr(sorted(changes.items()))]

    def make(work: Path) -> None:
        with booted_pair(deb) as nodes:
            configure(nodes, **changes)
            start(nodes)
            steady(nodes)
            nodes.freeze(work)

    found = build.cached("virtual-ready", build.digest(*parts, *code), make)
    _forget_old(found, root.parent)
    return found


def _forget_old(*used: Path) -> None:
    """Each state of the sources costs a gigabyte: keep what was used within a day."""
    now = time.time()
    for path in used:
        os.utime(path)
    for path in build.lab_dir().glob("virtual-r*-*"):
        if path.stat().st_mtime < now - KEEP:
            shutil.rmtree(path, ignore_errors=True)


def steady(nodes: VirtualPair) -> None:
    """Wait until both nodes see nothing left to wait for."""
    for node in NODES:
        nodes.wait(partial(is_steady, nodes, node), 120, f"{node} sees everything up and steady")


def is_steady(nodes: VirtualPair, node: str) -> bool:
    """Does that node see every link up, for long enough?"""
    links = nodes.run(node, "cat /run/kisscluster/links", check=False).stdout.split()
    return set(links) >= STEADY


@contextlib.contextmanager
def booted_pair(deb: Path | None) -> Iterator[VirtualPair]:
    """Both nodes booted from nothing, not configured."""
    started = time.monotonic()
    nodes = VirtualPair(deb=deb)
    try:
        for node in NODES:
            nodes.booted(node)
        say(f"both nodes booted in {time.monotonic() - started:.0f} s")
        yield nodes
    except AssertionError:
        say(story(nodes))
        raise
    finally:
        nodes.close()


def story(nodes: VirtualPair) -> str:
    """What both nodes would tell an administrator who wonders what went wrong."""
    told = []
    for node, qemu in nodes.machines.items():
        try:
            done = qemu.run(STORY, 20)
            told.append(f"--- {node}\n{done.stdout}{done.stderr}")
        except (subprocess.TimeoutExpired, OSError):
            console = (nodes.directory / node / "console.log").read_text(errors="replace")
            told.append(f"--- {node} does not answer; the end of its console:\n{console[-2000:]}")
    return "\n".join(told)


__all__ = ["Base", "VirtualPair", "booted_pair", "configure", "ready", "restored", "settled", "start", "steady"]
