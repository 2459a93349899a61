"""QEMU's command line for a VM, the same for QEMU 7.2 and 10 (FACTS 3)."""

import os
import pwd
import shlex
import zlib

from kisscluster.base.config import Vm
from kisscluster.base.exits import Exit, Failure
from kisscluster.base.run import Doer, Ended

USER = os.environ.get("KC_VM_USER", "_kisscluster-vm")
# Never the alias q35: it names another machine on each release, and both releases know this one.
MACHINE = "pc-q35-7.2"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def folder(run_dir: str, name: str) -> str:
    """Where a VM's sockets and its pid file are."""
    return f"{run_dir}/vm/{name}"


def tap(name: str, index: int) -> str:
    """The VM's end of a bridge; at most 15 characters, however long the VM's name."""
    short = name if len(name) <= 12 else name[:7] + f"{zlib.crc32(name.encode()):08x}"[:5]
    return f"{short}.{index}"


def identity(name: str) -> str:
    """A UUID that is the name itself (RFC 9562, version 8): unique without a hash, the same on both nodes."""
    digits = name.encode().ljust(15, b"\0").hex()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-8{digits[15:18]}-{digits[18:]}"


def _ip(doer: Doer, lines: list[str], *options: str) -> Ended:
    """All in one process."""
    return doer.do("ip", *options, "-batch", "-", given="".join(f"{line}\n" for line in lines))


def _make_taps(doer: Doer, vm: Vm) -> Ended:
    lines = []
    for index, bridge in enumerate(vm.bridge):
        name = tap(vm.name, index)
        lines += [f"tuntap add dev {name} mode tap user {USER}", f"link set dev {name} master {bridge} up"]
    return _ip(doer, lines)


def remove_taps(doer: Doer, vm: Vm) -> None:
    """A QEMU that ended leaves its interfaces behind; where there is none, ip(8) fails and nothing is lost."""
    _ip(doer, [f"link delete {tap(vm.name, index)}" for index in range(len(vm.bridge))], "-force")


def prepare(doer: Doer, vm: Vm, run_dir: str, devices: list[str]) -> None:
    """Give an unprivileged QEMU its sockets' folder, its disks and its interfaces."""
    where = folder(run_dir, vm.name)
    if doer.say(shlex.join(["install", "-d", "-m", "0750", "-o", USER, "-g", USER, where])):
        os.makedirs(where, exist_ok=True)
        os.chmod(where, 0o750)
        _give(where, group=True)
    for device in devices:
        if doer.say(shlex.join(["chown", USER, device])):
            _give(device)
    ended = _make_taps(doer, vm)
    if ended.status:
        # left by a node that was reset in the wrong moment, or half made
        remove_taps(doer, vm)
        ended = _make_taps(doer, vm)
    if ended.status:
        raise Failure(Exit.UNAVAILABLE, f"ip: {vm.name}'s interfaces: {ended.status}: {ended.talk}")


def _give(path: str, group: bool = False) -> None:
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        raise Failure(Exit.UNAVAILABLE, f"{USER}: no such user: is the package installed?") from None
    os.chown(path, user.pw_uid, user.pw_gid if group else -1)


def waiting(address: str, port: int) -> list[str]:
    """A guest that waits for another one's memory on the storage cable, and then for `cont`."""
    return ["-S", "-incoming", f"tcp:{address}:{port}"]


def command(vm: Vm, run_dir: str, devices: list[str]) -> list[str]:
    """QEMU with its privileges dropped; setpriv(1) becomes QEMU, so the unit's main process is QEMU itself."""
    drop = f"setpriv --reuid={USER} --regid={USER} --init-groups --inh-caps=-all --bounding-set=-all --no-new-privs --"
    return [
        *drop.split(),
        "qemu-system-x86_64",
        *_machine(vm),
        *_monitors(folder(run_dir, vm.name)),
        *_disks(vm, devices),
        *_drives(vm, devices),
        *_interfaces(vm),
        *_alarms(vm),
        *shlex.split(vm.extra),
    ]


def _machine(vm: Vm) -> list[str]:
    plain = (
        f"-name {vm.name},process=kc-{vm.name} -nodefaults -no-user-config -sandbox {SANDBOX} "
        f"-machine {MACHINE},accel={vm.accel} -cpu {'host' if vm.accel == 'kvm' else 'max'} -smp {vm.cpus} "
        f"-m {vm.memory} -uuid {identity(vm.name)} -rtc base={vm.clock},driftfix=slew -boot strict=on"
    )
    return plain.split() + (["-vnc", vm.vnc, "-device", "VGA"] if vm.vnc else ["-display", "none"])


def _monitors(where: str) -> list[str]:
    out = ["-pidfile", f"{where}/pid"]
    for name in ("qmp", "monitor", "serial"):
        out += ["-chardev", f"socket,id={name},path={where}/{name},server=on,wait=off"]
        out += ["-serial", "chardev:serial"] if name == "serial" else ["-mon", f"chardev={name},mode=control"]
    return out


def _disks(vm: Vm, devices: list[str]) -> list[str]:
    """Without the host's page cache: no copy of the guest's data but DRBD's."""
    out = ["-device", "virtio-scsi-pci,id=scsi"] if vm.disk == "scsi" else []
    for index, device in enumerate(devices):
        out += [
            "-blockdev",
            f"driver=raw,node-name=disk{index},cache.direct=on,cache.no-flush=off,discard=unmap,"
            f"file.driver={_driver(device)},file.filename={device},file.aio=native,"
            "file.cache.direct=on,file.cache.no-flush=off,file.discard=unmap",
            "-device",
            f"{_controller(vm.disk, index)},drive=disk{index},bootindex={index + 1}",
        ]
    return out


def _drives(vm: Vm, devices: list[str]) -> list[str]:
    """Two empty CD drives, cd0 and cd1, for kc-monitor; the machine has six ports, and IDE disks come first."""
    taken = len(devices) if vm.disk == "ide" else 0
    free = [(index, port) for index, port in enumerate((5, 4)) if port >= taken]
    return [word for index, port in free for word in ("-device", f"ide-cd,bus=ide.{port},id=cd{index}")]


def _driver(device: str) -> str:
    return "file" if os.path.isfile(device) else "host_device"


def _controller(kind: str, index: int) -> str:
    return {"scsi": "scsi-hd,bus=scsi.0", "virtio": "virtio-blk-pci", "ide": f"ide-hd,bus=ide.{index}"}[kind]


def _interfaces(vm: Vm) -> list[str]:
    out = []
    for index, mac in enumerate(vm.mac):
        out += ["-netdev", f"tap,id=net{index},ifname={tap(vm.name, index)},script=no,downscript=no"]
        out += ["-device", f"virtio-net-pci,netdev=net{index},mac={mac},romfile="]
    return out


def _alarms(vm: Vm) -> list[str]:
    """A guest whose kernel panics counts as crashed: QEMU's default is to end well, as after a shutdown.

    The guest's watchdog comes last, or a guest would find its network cards in other slots once it is switched on.
    """
    out = ["-device", "pvpanic", "-action", "panic=exit-failure"]
    return out + ["-device", "i6300esb", "-action", "watchdog=reset"] if vm.watchdog == "yes" else out
