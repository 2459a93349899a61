"""QEMU's command line for a VM, the same for QEMU 7.2 and 10 (FACTS 3)."""

import os
import shlex
import stat
import uuid
import zlib

from kisscluster.base.config import Vm
from kisscluster.base.run import Doer

USER = "_kisscluster-vm"
# Never the alias q35: it names another machine on each release, and both releases know this one.
MACHINE = "pc-q35-7.2"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
NAMESPACE = uuid.UUID("6f1d3a52-52a6-4c55-9d8a-3f3cf1a1a8f1")


def folder(run_dir: str, name: str) -> str:
    """Where a VM's sockets and its pid file are."""
    return f"{run_dir}/vm/{name}"


def tap(name: str, index: int) -> str:
    """The VM's end of a bridge; at most 15 characters, however long the VM's name."""
    short = name if len(name) <= 12 else name[:7] + f"{zlib.crc32(name.encode()):08x}"[:5]
    return f"{short}.{index}"


def remove_taps(doer: Doer, vm: Vm) -> None:
    """A QEMU that was killed leaves its interfaces behind; where there is none, ip(8) fails and nothing is lost."""
    for index in range(len(vm.bridge)):
        doer.do("ip", "link", "delete", tap(vm.name, index))


def preparation(vm: Vm, run_dir: str, devices: list[str]) -> list[list[str]]:
    """The commands that give an unprivileged QEMU its sockets' folder, its disks and its interfaces."""
    out = [["install", "-d", "-m", "0750", "-o", USER, "-g", USER, folder(run_dir, vm.name)]]
    out += [["chown", USER, device] for device in devices]
    for index, bridge in enumerate(vm.bridge):
        name = tap(vm.name, index)
        out += [
            ["ip", "tuntap", "add", "dev", name, "mode", "tap", "user", USER],
            ["ip", "link", "set", "dev", name, "master", bridge, "up"],
        ]
    return out


def command(vm: Vm, run_dir: str, devices: list[str]) -> list[str]:
    """QEMU with its privileges dropped; setpriv(1) becomes QEMU, so the unit's main process is QEMU itself."""
    drop = [
        "setpriv",
        f"--reuid={USER}",
        f"--regid={USER}",
        "--init-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
        "--",
    ]
    return drop + [
        "qemu-system-x86_64",
        *_machine(vm),
        *_monitors(folder(run_dir, vm.name)),
        *_disks(vm, devices),
        *_interfaces(vm),
        *shlex.split(vm.extra),
    ]


def _machine(vm: Vm) -> list[str]:
    screen = ["-vnc", vm.vnc, "-device", "VGA"] if vm.vnc else ["-display", "none"]
    return [
        "-name",
        f"{vm.name},process=kc-{vm.name}",
        "-nodefaults",
        "-no-user-config",
        "-sandbox",
        SANDBOX,
        "-machine",
        f"{MACHINE},accel={vm.accel}",
        "-cpu",
        "host" if vm.accel == "kvm" else "max",
        "-smp",
        str(vm.cpus),
        "-m",
        str(vm.memory),
        "-uuid",
        str(uuid.uuid5(NAMESPACE, vm.name)),
        "-rtc",
        f"base={vm.clock},driftfix=slew",
        "-boot",
        "strict=on",
        *screen,
    ]


def _monitors(where: str) -> list[str]:
    out = ["-pidfile", f"{where}/pid"]
    for name in ("qmp", "monitor"):
        out += [
            "-chardev",
            f"socket,id={name},path={where}/{name},server=on,wait=off",
            "-mon",
            f"chardev={name},mode=control",
        ]
    return out + [
        "-chardev",
        f"socket,id=serial,path={where}/serial,server=on,wait=off",
        "-serial",
        "chardev:serial",
    ]


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


def _driver(device: str) -> str:
    try:
        return "file" if stat.S_ISREG(os.stat(device).st_mode) else "host_device"
    except OSError:
        return "host_device"


def _controller(kind: str, index: int) -> str:
    return {"scsi": "scsi-hd,bus=scsi.0", "virtio": "virtio-blk-pci", "ide": f"ide-hd,bus=ide.{index}"}[kind]


def _interfaces(vm: Vm) -> list[str]:
    out = []
    for index, mac in enumerate(vm.mac):
        out += [
            "-netdev",
            f"tap,id=net{index},ifname={tap(vm.name, index)},script=no,downscript=no",
            "-device",
            f"virtio-net-pci,netdev=net{index},mac={mac},romfile=",
        ]
    return out
