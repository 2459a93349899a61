"""What is not set up right on this node, from what see/setup.py has read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kisscluster.base.config import Config, Vm
from kisscluster.decide.wrong import HALF_FENCED, Wrong

KVM, QEMU = "/dev/kvm", "qemu-system-x86_64"
DROP_IN = "/etc/systemd/system.conf.d/kisscluster.conf"
RESET = "printf '[Manager]\\nRuntimeWatchdogSec=30\\n'"
PANIC = "echo kernel.panic=10 > /etc/sysctl.d/kisscluster.conf && systemctl restart systemd-sysctl.service"
WATCHDOG = f"{RESET} | install -Dm 644 /dev/stdin {DROP_IN} && systemctl daemon-reexec"
# Who tells a word, and what it must match, else what is wrong and what mends it
ASK = {
    "target": "systemctl show --value --property=UnitFileState kisscluster.target",
    "drbd_service": "systemctl show --value --property=UnitFileState drbd.service",
    "watchdog": "systemctl show --value --property=RuntimeWatchdogUSec",
    "clock": "timedatectl show --value --property=NTPSynchronized",
}
GOOD = {
    "target": ("enabled", "kisscluster.target is not enabled", "systemctl enable --now kisscluster.target"),
    "drbd_service": ("(?!enabled).*", "drbd.service is enabled", "systemctl disable drbd.service"),
    "watchdog": ("(?!0).+", "systemd does not use the watchdog", WATCHDOG),
    "panic": ("(?!0).+", "kernel.panic is 0", PANIC),
    "clock": ("yes", "the clock is not synchronised", "timedatectl set-ntp true"),
    "drbd": ("8[.]4[.].+", "the kernel's own DRBD 8.4 is not loaded", "modprobe drbd && head -n1 /proc/drbd"),
}
# Numbers are the most, for a deadtime of 3 s: DRBD must miss the peer no later. Handlers may do more beside it
WANTED = """
net { ping-int 1; timeout 30; connect-int 1; after-sb-0pri discard-zero-changes; }
disk { fencing resource-and-stonith; }
options { on-no-data-accessible suspend-io; }
handlers {
  fence-peer "/usr/bin/kc-fence-peer";
  unfence-peer "touch /run/kisscluster/wake/failover";
  split-brain "touch /var/lib/kisscluster/split-brain/$DRBD_RESOURCE /run/kisscluster/wake/failover";
  local-io-error "touch /run/kisscluster/wake/failover";
  before-resync-target "test ! -e /var/lib/kisscluster/ahead/$DRBD_RESOURCE";
}"""
UNTOLD = """
net { protocol C; allow-two-primaries no; ping-timeout 5; after-sb-1pri disconnect; after-sb-2pri disconnect; }
disk { on-io-error detach; }"""


class Setup(NamedTuple):
    """What was read; None: it could not be looked at."""

    words: dict[str, str | None]  # those of GOOD
    same: bool | None  # has the peer the same configuration files?
    secret: str | None  # why it is none, or nothing
    addresses: dict[str, str] | None  # of all interfaces, with the names of these
    bridges: frozenset[str]
    mtu_lost: int | None  # bytes of a packet that fills the storage interface's MTU and does not reach the peer, or 0
    missing: frozenset[str]  # of what needs() names
    dump: str | None  # DRBD's files as drbdadm reads them
    refused: str  # or why it does not
    up: frozenset[str]
    changes: dict[str, str | None]  # what drbdadm would change in the kernel's options of those that are up


def options(text: str) -> dict[str, str]:
    """What a text in DRBD's language says: `section option`: its value."""
    out: dict[str, str] = {}
    path: list[str] = []
    words: list[str] = []
    for token in re.findall(r'"(?:\\.|[^"\\])*"|[{};]|[^\s{};"]+', re.sub(r"(?m)^\s*#.*", "", text)):
        if token not in "{};":
            words.append(token.strip('"'))
            continue
        if token == ";":
            out[" ".join([*path, *words[:1]])] = " ".join(words[1:])
        path = path[:-1] if token == "}" else [*path, " ".join(words)] if token == "{" else path
        words = []
    return out


def needs(config: Config, vms: list[Vm]) -> dict[str, str]:
    """What must be here, and for which VM: its files; for none of them: what the shell runs, where it is plain."""
    assigned = r"""(?:\w+=(?:"[^"]*"|'[^']*'|[^\s"'])*\s+)*"""
    fence = re.match(rf"{assigned}([\w./+-]+)(?=[\s;|&]|$)", config.peer.fence)
    out = dict.fromkeys([QEMU] * bool(vms) + ([fence[1]] if fence else []), "")
    images = r"(?:^|[\s=])(/[^,\s]+\.(?:iso|img|raw|qcow2))(?=[,\s]|$)"
    return out | {path: vm.name for vm in vms for path in [KVM] * (vm.accel == "kvm") + re.findall(images, vm.extra)}


def findings(config: Config, vms: list[Vm], facts: Setup) -> Iterator[Wrong]:
    """All that is wrong."""
    me, peer, secret = config.me.name, config.peer.name, config.secret
    for name, value in facts.words.items():
        good, text, command = GOOD[name]
        if value is not None and not re.fullmatch(good, value):
            yield Wrong(me, text, command)
    if facts.secret:
        mend = f"chmod 0600 {secret}" if ": mode " in facts.secret else f"scp -p {peer}:{secret} {secret} || kc-keygen"
        yield Wrong(me, facts.secret, mend)
    if facts.same is False:
        show = f"tail -n+1 {config.file} {config.vm_folder}/*.conf"
        yield Wrong("pair", "the configuration files of the nodes differ", f"{show} | diff - <(ssh {peer} '{show}')")
    if bool(config.me.fence) != bool(config.peer.fence):
        yield HALF_FENCED
    if facts.addresses is not None:
        yield from _networks(config, vms, facts, facts.addresses)
    if facts.refused:
        yield Wrong(me, f"drbdadm refuses its files: {facts.refused}", "drbdadm dump")
    for vm in vms if facts.dump is not None else []:
        yield from _disk(config, vm.name, facts)
    install = {QEMU: "apt install qemu-system-x86", KVM: "modprobe kvm_intel || modprobe kvm_amd"}
    for need, who in needs(config, vms).items():
        command = f"scp {peer}:{need} {need}" if who else f"editor {config.file}"
        if need in facts.missing:
            yield Wrong(who or me, f"{need} is not there, or cannot be run", install.get(need, command))


def unknown(facts: Setup) -> list[str]:
    """All that could not be looked at, in the names of the facts."""
    named = [*facts._asdict().items(), *facts.words.items(), *facts.changes.items()]
    return [name for name, value in named if value is None and not (name == "dump" and facts.refused)]


def _networks(config: Config, vms: list[Vm], facts: Setup, here: dict[str, str]) -> Iterator[Wrong]:
    me, storage = config.me.name, config.me.storage
    for address in (config.me.production, storage):
        if address not in here:
            yield Wrong(me, f"no interface has the address {address}", "ip -brief address")
    if facts.mtu_lost:
        text = f"packets of {facts.mtu_lost} bytes, the storage interface's MTU, do not reach the peer"
        yield Wrong(me, text, f"ping -Mdo -s{facts.mtu_lost - 28} {config.peer.storage}")
    for vm in vms:
        for bridge in sorted(set(vm.bridge) - facts.bridges):
            yield Wrong(vm.name, f"there is no bridge {bridge}", "ip -brief link show type bridge")


def _disk(config: Config, name: str, facts: Setup) -> Iterator[Wrong]:
    told, file, adjust = options(facts.dump or ""), f"/etc/drbd.d/{name}.res", f"drbdadm adjust {name}"
    if not any(option.startswith(f"resource {name} ") for option in told):
        yield Wrong(name, "there is no DRBD resource of that name", f"scp {config.peer.name}:{file} {file}")
        return
    untold, storage = options(UNTOLD), {f"on {node.name} address": node.storage for node in config.nodes}
    for option, want in {**storage, **untold, **options(WANTED)}.items():
        common = told.get(f"common {option}", untold.get(option, "not set"))
        value = told.get(f"resource {name} {option}", common)
        if want.isdecimal():
            fits = value.isdecimal() and int(value) <= int(want) * max(1.0, config.deadtime / 3)
        else:
            fits = bool(re.search(rf"(?<![\w./-]){re.escape(want)}(?![\w./-])", value))
        if not fits:
            yield Wrong(name, f"DRBD's {option} is {value}: expected {want}", f"editor {file} && {adjust}")
    if name not in facts.up:
        yield Wrong(name, "its DRBD resource is not up", adjust)
    elif facts.changes.get(name):
        yield Wrong(name, f"the kernel's DRBD options are not those of {file}", adjust)
