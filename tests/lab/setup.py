"""The configuration of the laboratory's pair, written into its nodes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.pair import NODES, PRODUCTION, STORAGE, SWITCH, VMS, Pair

CONFIG = "/etc/kisscluster/kisscluster.conf"
SECRET = "/etc/kisscluster/secret"
HANDLER = "/usr/bin/kc-fence-peer"
SECTOR = 512
# of a pair on which scenarios run; under tcg it takes some seconds until the peer hears that a LAN is back
SETTINGS: dict[str, object] = {"settle": 3}
SLOW: dict[str, object] = {"settle": 10}
GUESTS: dict[str, object] = {"stop_timeout": 1}  # the guest of one sector knows no power button

RESOURCE = """\
resource {vm} {{
  protocol C;
  disk {{ fencing resource-and-stonith; on-io-error detach; }}
  options {{ on-no-data-accessible suspend-io; }}
  net {{
    ping-int 1; ping-timeout 5; timeout 30; connect-int 1;
    after-sb-0pri discard-zero-changes; after-sb-1pri disconnect; after-sb-2pri disconnect;
  }}
  handlers {{
    fence-peer "/usr/bin/kc-fence-peer";
    unfence-peer "touch /run/kisscluster/wake/failover";
    split-brain "touch /var/lib/kisscluster/split-brain/$DRBD_RESOURCE /run/kisscluster/wake/failover";
    local-io-error "touch /run/kisscluster/wake/failover";
    before-resync-target "test ! -e /var/lib/kisscluster/ahead/$DRBD_RESOURCE";
  }}
  volume 0 {{ device minor {minor}; disk {disk}; meta-disk internal; }}
  on node1 {{ address {address1}:{port}; }}
  on node2 {{ address {address2}:{port}; }}
}}
"""


def kisscluster_conf(fences: Mapping[str, str] | None = None, /, **changes: object) -> str:
    """The text of kisscluster.conf; changes replace or add top-level keys; fences: each node's fence command."""
    settings: dict[str, object] = {
        "cluster": "lab", "ping": SWITCH, "port": 5324, "interval": 0.5, "deadtime": 3.0, "settle": 30,
        "failback": "migrate", "failback_after": 600, **changes}
    lines = [f"{key} = {value}" for key, value in settings.items()] + ["[nodes]"]
    for node in NODES:
        lines += [f"  [[{node}]]", f"    production = {PRODUCTION[node]}"]
        lines += [f"    storage = {STORAGE[node]}"]
        lines += [f'    fence = "{fences[node]}"'] if fences and node in fences else []
    return "\n".join(lines) + "\n"


def vm_conf(vm: str, **changes: object) -> str:
    """The text of a guest's definition."""
    settings: dict[str, object] = {
        "node": VMS[vm].home, "memory": 32, "cpus": 1, "bridge": "br0", "disk": "ide", "accel": "tcg",
        **changes}
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def drbd_resource(vm: str, disk: str) -> str:
    """The text of /etc/drbd.d/VM.res."""
    return RESOURCE.format(vm=vm, disk=disk, minor=VMS[vm].minor, port=VMS[vm].port,
                           address1=STORAGE["node1"], address2=STORAGE["node2"])


@cache
def guest() -> bytes:
    """The boot sector of the guest that counts on its disk (guest.s)."""
    source = Path(__file__).with_name("guest.s")
    with TemporaryDirectory() as directory:
        subprocess.run(["as", "--32", str(source), "-o", "guest.o"], cwd=directory, check=True)
        subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "guest.o",
                        "-o", "guest.bin"], cwd=directory, check=True)
        return (Path(directory) / "guest.bin").read_bytes()


def guest_disk(mebibytes: int) -> bytes:
    """A whole disk with the guest in its first sector and its counter at zero."""
    return guest().ljust(mebibytes << 20, b"\0")


def count_on(sectors: bytes) -> int:
    """The guest's counter, from the first two sectors of its disk."""
    return int.from_bytes(sectors[SECTOR:SECTOR + 4], "little")


def write_config(pair: Pair, disks: Mapping[str, str], **changes: object) -> None:
    """Write /etc/kisscluster and /etc/drbd.d into both nodes; disks: what is under DRBD, for each VM."""
    secret = _secret(pair)
    write_resources(pair, disks)
    for node in NODES:
        pair.run(node, "install -d -m 0755 /etc/kisscluster/vm")
        pair.write(node, CONFIG, kisscluster_conf(**changes))
        pair.write(node, SECRET, secret, mode=0o600)
        for vm in disks:
            pair.write(node, f"/etc/kisscluster/vm/{vm}.conf", vm_conf(vm, **GUESTS))


def start(pair: Pair) -> None:
    """Switch KISScluster on, also for the next boot; does not wait."""
    for node in NODES:
        pair.run(node, "systemctl enable --now --no-block kisscluster.target")


def write_resources(pair: Pair, disks: Mapping[str, str], handler: str = HANDLER) -> None:
    """Write only /etc/drbd.d, with that fence-peer handler."""
    for node in NODES:
        for vm, disk in disks.items():
            text = drbd_resource(vm, disk).replace(HANDLER, handler)
            pair.write(node, f"/etc/drbd.d/{vm}.res", text)


def _secret(pair: Pair) -> str:
    pair.run(NODES[0], f"test -e {SECRET} || kc-keygen")
    return pair.read(NODES[0], SECRET)
