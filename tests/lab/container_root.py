"""The root file system of a container node, in layers that are built once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab import build
from tests.lab.say import LabError, run_logged

SUITE = "trixie"
DISKS = "/var/lib/lab-disks"
PACKAGES = """
systemd systemd-sysv dbus udev iproute2 iputils-ping procps kmod util-linux nftables socat
python3 python3-configobj python3-icmplib drbd-utils qemu-system-x86 seabios
""".split()
# What a container neither has nor needs; each costs time at boot
MASKED = """
apt-daily.timer apt-daily-upgrade.timer console-getty.service dev-hugepages.mount dpkg-db-backup.timer drbd.service
drbd-lvchange@.path e2scrub_all.timer fstrim.timer getty.target ldconfig.service remote-fs.target
sys-fs-fuse-connections.mount systemd-boot-random-seed.service systemd-firstboot.service
systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-logind.service
systemd-modules-load.service systemd-network-generator.service systemd-networkd.service systemd-pcrphase.service
systemd-random-seed.service systemd-remount-fs.service systemd-resolved.service systemd-sysctl.service
systemd-sysusers.service systemd-timesyncd.service systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev-early.service
systemd-tmpfiles-setup-dev.service systemd-udev-trigger.service systemd-udevd.service
systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-update-done.service
systemd-update-utmp.service systemd-user-sessions.service tmp.mount
""".split()
STANDIN = "usr/local/lib/lab"
FILES = {
    "etc/systemd/system/lab-drbd.service": f"""\
[Unit]
Description=Stand-in for the DRBD kernel module
DefaultDependencies=no
After=systemd-journald.socket
Before=basic.target
[Service]
Type=notify
Environment=PYTHONPATH=/{STANDIN}
ExecStart=/usr/bin/python3 -B -m tests.lab.standin.daemon
""",
    "etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultEnvironment={environment}\n",
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\nSyncIntervalSec=1s\n",
    "etc/hosts": "127.0.0.1 localhost\n192.0.2.11 node1\n192.0.2.12 node2\n",
}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "KC_PROC_DRBD": "/run/lab-drbd/proc", "KC_SYSRQ": "/lab/sysrq"}


def layers(deb: Path | None, more: Sequence[str] = (), suite: str = SUITE) -> list[Path]:
    """The lower layers of a node's root, the uppermost first; more: packages beside those of every node."""
    base = _base(more, suite)
    if deb is None:
        return [base]
    key = build.digest(base.parent.name, build.digest_files(deb.parent, [deb]))  # each base is called root
    return [build.cached("node", key, lambda work: _install(work, base, deb)) / "upper", base]


def _base(more: Sequence[str], suite: str) -> Path:
    packages = [*PACKAGES, *more]
    standin = Path(__file__).parent / "standin"
    sources = [file for file in standin.iterdir() if file.is_file()]
    system = build.cached("root", build.digest(suite, *packages), lambda work: _bootstrap(work, packages, suite))
    key = build.digest(system.name, *MASKED, repr(FILES), repr(ENVIRONMENT), build.digest_files(standin, sources))
    return build.cached("base", key, lambda work: _equip(work, system / "root", sources)) / "root"


def _bootstrap(work: Path, packages: Sequence[str], suite: str) -> None:
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(work / "root")]
    run_logged(command, work / "log", "root of the container nodes")


def _equip(work: Path, system: Path, sources: list[Path]) -> None:
    """A copy by hard links, with the stand-in and without what slows the boot."""
    root = work / "root"
    subprocess.run(["cp", "-al", str(system), str(root)], check=True)
    for unit in MASKED:
        _replace(root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for name, text in FILES.items():
        environment = " ".join(f"{key}={value}" for key, value in ENVIRONMENT.items() if key != "PATH")
        _replace(root / name).write_text(text.replace("{environment}", environment))
    for source in sources:
        shutil.copy2(source, _replace(root / STANDIN / "tests/lab/standin" / source.name))
    shutil.copy2(Path(__file__).with_name("__init__.py"), root / STANDIN / "tests/lab/__init__.py")
    shutil.move(root / STANDIN / "tests/lab/standin/drbdadm", _replace(root / "usr/sbin/drbdadm"))
    wants = _replace(root / "etc/systemd/system/basic.target.wants/lab-drbd.service")
    wants.symlink_to("/etc/systemd/system/lab-drbd.service")
    (root / "var/log/journal").mkdir(exist_ok=True)
    (root / "lab").mkdir()


def _replace(path: Path) -> Path:
    """Make room: writing into a hard link would change the original, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def _install(work: Path, base: Path, deb: Path) -> None:
    (work / "upper").mkdir()
    with overlay(work, [base]) as root:
        shutil.copy2(deb, root / deb.name)
        command = ["systemd-nspawn", "-q", "-D", str(root), "--register=no", "--keep-unit", "--pipe",
                   "-E", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", f"/{deb.name}"]
        run_logged(command, work / "log", "package into the root")
        (root / deb.name).unlink()


@contextmanager
def overlay(work: Path, lowers: list[Path]) -> Iterator[Path]:
    """Mount work/upper over other directories, for a while."""
    root = mount_overlay(work, lowers)
    try:
        yield root
    finally:
        subprocess.run(["umount", str(root)], check=True)
        shutil.rmtree(work / "work")


def mount_overlay(work: Path, lowers: list[Path]) -> Path:
    """Mount work/upper over other directories at work/root."""
    for name in ("upper", "work", "root"):
        (work / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={':'.join(str(lower) for lower in lowers)},upperdir={work}/upper,workdir={work}/work"
    subprocess.run(["mount", "-t", "overlay", "lab", "-o", options, str(work / "root")], check=True)
    return work / "root"


def cgroup_roots() -> list[Path]:
    """The cgroup hierarchies that carry processes: version 2, and on a hybrid host systemd's own."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.procs").exists():
        return [top]
    return [top / "unified", top / "systemd"]


def check_host() -> None:
    """Refuse to start where it cannot work, and say why."""
    for module in ("fuse", "overlay", "tun", "veth", "nf_tables"):
        subprocess.run(["sh", "-c", f"modprobe -q {module}"], check=False, stderr=subprocess.DEVNULL)
    known = Path("/proc/filesystems").read_text().split()
    missing = [name for name in ("fuse", "overlay", "cgroup2") if name not in known]
    if missing:
        raise LabError(f"the kernel of this machine lacks {', '.join(missing)}")


def sweep() -> None:
    """Remove what laboratories left that were killed: their cgroups and directories are empty by now."""
    for top in cgroup_roots():
        for group in top.glob("kclab-*"):
            if not os.path.exists(f"/proc/{group.name.split('-')[1]}"):
                remove_cgroup(group)
    for directory in build.lab_dir().glob("run-*"):
        if not os.path.exists(f"/proc/{directory.name.split('-')[1]}"):
            shutil.rmtree(directory, ignore_errors=True)


def remove_cgroup(group: Path) -> None:
    """Remove a cgroup without processes."""
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            return
