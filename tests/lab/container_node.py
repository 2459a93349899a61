"""One container node: systemd-nspawn on an overlay, in a network namespace and a cgroup of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.lab import container_root, isolate
from tests.lab.net import Net
from tests.lab.pair import wait
from tests.lab.say import LabError

BOOT_SECONDS = 60
PANIC_SECONDS = 5  # until a node boots again after a panic, as the virtual ones do (panic=5)
# A write to the host's sysrq-trigger would reset the host: no node may run before it cannot be reached
INIT = """\
#!/bin/sh
if test -e /proc/sysrq-trigger; then
  mount --bind /lab/sysrq /proc/sysrq-trigger && test /lab/sysrq -ef /proc/sysrq-trigger || exit 1
fi
mkdir -p /dev/net
test -e /dev/net/tun || mknod /dev/net/tun c 10 200
test -e /dev/fuse || mknod /dev/fuse c 10 229
chmod 0666 /dev/net/tun /dev/fuse || exit 1
exec setpriv --pdeathsig KILL /usr/lib/systemd/systemd
"""


class Node:
    """A node that can be booted, killed and frozen; its root survives."""

    def __init__(self, name: str, base: Path, lowers: list[Path], net: Net) -> None:
        self.name, self.base, self.lowers, self.net = name, base, lowers, net
        self.process: subprocess.Popen[bytes] | None = None
        self.leader = self.boots = 0
        self.reboots_at = 0.0
        self.firmware = 0.0  # seconds that pass between a reset and the boot
        self.lock = threading.RLock()
        # run-PID-NUMBER gives kclab-PID-NUMBER-NODE
        self.groups = [top / f"kclab-{base.parent.name[4:]}-{name}" for top in container_root.cgroup_roots()]
        self.root = base / "root"
        self.sysrq = base / "lab/sysrq"
        self.renew()

    def renew(self) -> None:
        """Off, and its disk as it was when the package had just been installed."""
        with self.lock:
            self.kill()
            subprocess.run(["umount", str(self.root)], check=False, capture_output=True)
            shutil.rmtree(self.base, ignore_errors=True)
            container_root.mount_overlay(self.base, self.lowers)
            self._prepare()

    def _prepare(self) -> None:
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/machine-id").write_text(f"{self.name.encode().hex():0>32}\n")
        (self.base / "lab").mkdir()
        self.sysrq.write_text("")
        (self.base / "lab/init").write_text(INIT)
        (self.base / "lab/init").chmod(0o755)

    # Power

    def boot(self) -> None:
        """Switch it on; returns when its units are started."""
        with self.lock:
            if self.process:
                raise LabError(f"{self.name} runs already")
            self.reboots_at = 0.0
            netns = self.net.plug_veth(self.name)
            for group in self.groups:
                for part in ("nspawn", "run"):
                    (group / part).mkdir(parents=True, exist_ok=True)
            command = [
                "systemd-nspawn", "-q", "-D", str(self.root), "--register=no", "--keep-unit", "-M", self.name,
                f"--network-namespace-path={netns}", f"--bind={self.base}/lab:/lab", "--console=pipe",
                "--timezone=off", "--resolv-conf=off", "--link-journal=no",
                "--capability=CAP_IPC_LOCK,CAP_NET_ADMIN", "/lab/init"]
            environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
            with (self.base / "console").open("ab") as log:
                self.process = isolate.spawn(command, log, lambda: self._join("nspawn"), environment)
            wait(self._find_leader, BOOT_SECONDS, f"{self.name} starts its systemd", 0.01)
            wait(self.root_path("/run/systemd/private").exists, BOOT_SECONDS, f"{self.name} boots", 0.01)
            self.run("systemctl is-system-running --wait", BOOT_SECONDS, check=False)
            self.boots += 1

    def _join(self, part: str) -> None:
        for group in self.groups:
            (group / part / "cgroup.procs").write_text("0")

    def _find_leader(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise LabError(f"{self.name} does not start: {(self.base / 'console').read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for child in children:
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    self.leader = int(child)
                    return True
        return False

    def kill(self) -> None:
        """Pull the plug: nothing more is sent, then nothing runs any more, then its kernel's sockets are gone."""
        with self.lock:
            self.reboots_at = 0.0
            if not self.process:
                return
            self.net.numb(self.name, True)
            self._write_group("cgroup.freeze", "0")
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)
                wait(self._is_dead, 10, f"{self.name} dies", 0.005)
            self.process.kill()
            self.process.wait(10)
            self.process = None
            self.net.unplug_veth(self.name)

    def _is_dead(self) -> bool:
        """A leader is a zombie only when nothing else of its node is left."""
        try:
            return ") Z " in Path(f"/proc/{self.leader}/stat").read_text()
        except OSError:
            return True

    def _write_group(self, file: str, value: str) -> None:
        with contextlib.suppress(OSError):
            (self.groups[0] / file).write_text(value)

    def freeze(self, on: bool) -> None:
        """Stand still, or go on."""
        if on:
            self.net.numb(self.name, True)
        self._write_group("cgroup.freeze", "1" if on else "0")
        if not on:
            self.net.numb(self.name, False)

    def obey_sysrq(self) -> None:
        """Do what was written to its sysrq-trigger: b resets, c is a panic, o is power off."""
        if not self.process and not self.reboots_at or not self.lock.acquire(blocking=False):
            return
        try:
            if not self.process:
                if self.reboots_at and time.monotonic() > self.reboots_at:
                    self.boot()
                return
            wish = self.sysrq.read_text().strip()
            gone = not os.path.exists(f"/proc/{self.leader}")
            if wish or gone:
                self.sysrq.write_text("")
            if gone or wish[:1] in ("b", "c", "o"):
                self.kill()
            if (gone or wish[:1] == "b") and not self.firmware:
                self.boot()
            elif gone or wish[:1] == "b":
                self.reboots_at = time.monotonic() + self.firmware
            elif wish[:1] == "c":
                self.reboots_at = time.monotonic() + PANIC_SECONDS
        finally:
            self.lock.release()

    # Inside

    def root_path(self, path: str) -> Path:
        """A path inside the running node, seen from here."""
        return Path(f"/proc/{self.leader}/root{path}")

    def inside(self, path: str) -> Path | None:
        """The same if the node runs and the path exists."""
        with contextlib.suppress(OSError):
            if self.process and self.root_path(path).exists():
                return self.root_path(path)
        return None

    def run(self, command: str, timeout: float = 30, check: bool = True, stdin: str = ""
            ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root."""
        if not self.process:
            raise LabError(f"{self.name} is off: {command}")
        line = ["nsenter", "-t", str(self.leader), "-a", "--", "/bin/sh", "-c", command]
        environment = {**container_root.ENVIRONMENT, "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment, start_new_session=True, preexec_fn=lambda: self._join("run")
                              ) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {command}: exit {done.returncode}\n{out}{err}")
        return done

    def close(self) -> None:
        """Off, and nothing left."""
        self.kill()
        deadline = time.monotonic() + 2
        while any(group.exists() for group in self.groups) and time.monotonic() < deadline:
            for group in self.groups:
                container_root.remove_cgroup(group)
            time.sleep(0.01)
        subprocess.run(["umount", "-l", str(self.root)], check=False, capture_output=True)
        shutil.rmtree(self.base, ignore_errors=True)
