"""The virtual nodes' disks: a Debian root with the project's package, its kernel, and a boot of a few seconds."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import build
from tests.lab.say import LabError, run_logged

OVERLAY = Path(__file__).with_name("virtual_root")
SUITE = "trixie"
PACKAGES = (
    "systemd systemd-sysv udev dbus iproute2 iputils-ping procps kmod nftables socat python3 python3-configobj "
    "python3-icmplib qemu-system-x86 seabios drbd-utils linux-image-amd64 tiny-initramfs busybox-static"
).split()
OPTIONS = [
    "--variant=minbase",
    "--aptopt=Apt::Install-Recommends false",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
]
# What a laboratory's node never needs costs seconds of every boot under tcg.
MASKED = (
    "getty@.service serial-getty@.service console-getty.service container-getty@.service getty.target "
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service "
    "systemd-tmpfiles-clean.timer systemd-update-utmp.service systemd-update-utmp-runlevel.service "
    "systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service ldconfig.service "
    "systemd-binfmt.service systemd-firstboot.service systemd-pstore.service systemd-battery-check.service "
    "systemd-machine-id-commit.service systemd-networkd-wait-online.service systemd-user-sessions.service "
    "systemd-logind.service systemd-ask-password-wall.path systemd-ask-password-console.path "
    "dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount "
    "sys-fs-fuse-connections.mount systemd-udev-load-credentials.service systemd-tpm2-setup-early.service "
    "systemd-tpm2-setup.service systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-sysinit.service "
    "systemd-pcrphase-initrd.service proc-sys-fs-binfmt_misc.automount modprobe@.service "
    "drbd-graceful-shutdown.service nftables.service systemd-random-seed.service systemd-udev-trigger.service"
).split()
ENABLED = {"lab-net.service": "sysinit.target", "lab-agent.service": "sysinit.target"}
# A machine before the installation has what Debian's package sources have, and a laboratory no way to them.
BARE = (
    "ansible-core bash-completion git lvm2 openssh-client openssh-server python3-apt qemu-utils systemd-timesyncd"
).split()
BARE_MASKED = (
    "getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer "
    "e2scrub_reap.service systemd-networkd-wait-online.service"
).split()
MODULES = ["crc32c_generic", "ext4", "virtio_blk", "virtio_net", "drbd", "bridge", "tun"]
INIT = """#!/busybox sh
/busybox mount -t devtmpfs dev /dev
/busybox mount -t proc proc /proc
for module in /modules/*; do /busybox insmod $module; done
/busybox mount -t ext4 -o noatime /dev/vda /root
/busybox umount /proc
exec /busybox switch_root /root /usr/lib/systemd/systemd
"""
PROBED = "a kernel runs here"
PROBE = f"""#!/busybox sh
/busybox mount -t devtmpfs dev /dev
echo {PROBED} > /dev/ttyS0
/busybox poweroff -f
"""
IMAGE_SIZE = "2G"


def run(*command: str | Path, data: bytes | None = None) -> bytes:
    """Run a quick command; its output."""
    done = subprocess.run([str(word) for word in command], input=data, capture_output=True)
    if done.returncode:
        raise LabError(f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return done.stdout


@dataclass(frozen=True)
class Base:
    """A Debian root as a tar archive, and what boots it."""

    path: Path

    @property
    def kernel(self) -> Path:
        return self.path / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.path / "initrd"

    @property
    def root(self) -> Path:
        return self.path / "root.tar"


def base() -> Base:
    """Build it, or find it built."""
    key = build.digest(SUITE, *PACKAGES, *OPTIONS, *MODULES, INIT, PROBE)
    return Base(build.cached("virtual-base", key, _build_base))


def _build_base(work: Path) -> None:
    made, root = Base(work), work / "root"
    command = ["mmdebstrap", *OPTIONS, f"--include={','.join(PACKAGES)}", SUITE, str(made.root)]
    run_logged(command, work / "log", "Debian root with a kernel")
    root.mkdir()
    run("tar", "-C", root, "-xf", made.root, "--wildcards", "./boot/vmlinuz*", "./usr/lib/modules", "./usr/bin")
    made.kernel.write_bytes(_kernel(next((root / "boot").glob("vmlinuz-*"))))
    made.initrd.write_bytes(_initrd(root))
    shutil.rmtree(root)


def _kernel(bzimage: Path) -> bytes:
    """The ELF kernel inside: QEMU starts it as it is, without some seconds of unpacking under tcg."""
    data = bzimage.read_bytes()
    start, length = struct.unpack_from("<II", data, 0x248)
    start += ((data[0x1F1] or 4) + 1) * 512
    return run("zstd", "-dc", data=data[start : start + length - 4])


def _module_files(root: Path) -> list[Path]:
    """MODULES and what they need, each after what it depends on."""
    (tree,) = (root / "usr/lib/modules").iterdir()
    needs = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path.split("/")[-1].split(".")[0]] = [path, *rest.split()]
    ordered: list[str] = []
    for name in MODULES:
        ordered += [path for path in reversed(needs[name]) if path not in ordered]
    return [tree / path for path in ordered]


def _initrd(root: Path) -> bytes:
    archive = b"".join(_cpio(name, b"", 0o40755) for name in ("dev", "proc", "root", "modules"))
    archive += _cpio("busybox", (root / "usr/bin/busybox").read_bytes(), 0o100755)
    archive += _cpio("probe", PROBE.encode(), 0o100755)
    archive += _cpio("init", INIT.encode(), 0o100755)
    for number, path in enumerate(_module_files(root)):
        content = path.read_bytes()
        content = lzma.decompress(content) if path.suffix == ".xz" else content
        archive += _cpio(f"modules/{number:02}-{path.name.split('.')[0]}.ko", content, 0o100644)
    return archive + _cpio("TRAILER!!!", b"", 0)


def _cpio(name: str, content: bytes, mode: int) -> bytes:
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    entry = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    entry += b"\0" * (-len(entry) % 4) + content
    return entry + b"\0" * (-len(entry) % 4)


def root_disk(debian: Base, deb: Path | None) -> Path:
    """A raw disk image of the base with the package installed; the same for both nodes."""
    def furnish(root: Path) -> None:
        _furnish(root, MASKED, ENABLED)
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n192.0.2.11 node1\n192.0.2.12 node2\n")
        (root / "var/log/journal").mkdir(exist_ok=True)
        if deb:
            shutil.copy(deb, root / "tmp/package.deb")
            run("chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", "/tmp/package.deb")
            (root / "tmp/package.deb").unlink()

    return _image(debian, furnish, *MASKED, *ENABLED, deb.read_bytes() if deb else b"")


def bare_disk(debian: Base) -> Path:
    """The same of a machine that nobody has made a node yet: its networks are Debian's, and so are its services."""
    def furnish(root: Path) -> None:
        _furnish(root, BARE_MASKED, {"lab-agent.service": ENABLED["lab-agent.service"]})
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        for words in (["update"], ["install", "-y", "--no-install-recommends", *BARE]):
            run("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={root}", "--mount-proc",
                "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *words)
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()

    return _image(debian, furnish, *BARE_MASKED, *BARE)


def _image(debian: Base, furnish: Callable[[Path], None], *parts: str | bytes) -> Path:
    def make(work: Path) -> None:
        root = work / "root"
        root.mkdir()
        run("tar", "-C", root, "-xf", debian.root)
        furnish(root)
        run("mkfs.ext4", "-q", "-O", "^metadata_csum,^64bit", "-E", "lazy_itable_init=1", "-d", root,
            work / "root.img", IMAGE_SIZE)
        shutil.rmtree(root)

    files = build.digest_files(OVERLAY, OVERLAY.rglob("*"))
    return build.cached("virtual-root", build.digest(debian.path.name, files, *parts), make) / "root.img"


def _furnish(root: Path, masked: Sequence[str], enabled: Mapping[str, str]) -> None:
    shutil.copytree(OVERLAY, root, dirs_exist_ok=True, symlinks=True)
    units = root / "etc/systemd/system"
    for name in masked:
        (units / name).symlink_to("/dev/null")
    for name, target in enabled.items():
        (units / f"{target}.wants").mkdir(exist_ok=True)
        (units / f"{target}.wants" / name).symlink_to(f"/etc/systemd/system/{name}")
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "etc/fstab").write_text("")
    for stamp in ("etc/.updated", "var/.updated"):
        (root / stamp).touch()
