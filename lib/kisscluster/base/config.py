"""Configuration: kisscluster.conf and vm/*.conf, read by configobj against configspecs."""

import os
import re
import zlib
from itertools import product
from typing import Annotated, NamedTuple

from configobj import ConfigObj, ConfigObjError, flatten_errors, get_extra_values

from kisscluster.base.exits import Exit, Failure
from kisscluster.base.light import without
from kisscluster.base.state import is_vm_name

# only its doctests print: dataclasses and inspect behind pprint were a fifth of every command's start
with without("pprint"):
    from configobj.validate import Validator, VdtValueError

Words = tuple[str, ...]
Keys = dict[str, tuple[str, str]]
OWN = "an address of its own, not that of "


class Node(NamedTuple):
    name: str
    production: Annotated[str, "address", "an IPv4 address on the production LAN"]
    storage: Annotated[str, "address", "an IPv4 address on the storage cable"]
    fence: Annotated[str, "string(default='')", "a command as typed in a shell (quote it where it has commas)"]


class Config(NamedTuple):
    """kisscluster.conf; all times in seconds, reserve in MiB.

    Annotated: a key of the file, with configobj's check and with what a person should have written.
    """

    file: str
    cluster: Annotated[str, "name", "a name of letters, digits, - and _"]
    ping: Annotated[str, "address", "an IPv4 address on the LAN, normally the switch's"]
    port: Annotated[int, "integer(1, 65535, default=5324)", "a UDP port from 1 to 65535"]
    interval: Annotated[float, "float(0.1, 10, default=0.5)", "seconds from 0.1 to 10"]
    deadtime: Annotated[float, "float(1, 60, default=3.0)", "seconds from 1 to 60"]
    settle: Annotated[float, "float(0, 3600, default=30)", "seconds from 0 to 3600"]
    failback: Annotated[str, "option('migrate', 'restart', 'manual', default='migrate')", "migrate, restart or manual"]
    failback_after: Annotated[float, "float(0, 86400, default=600)", "seconds from 0 to 86400"]
    nodes: tuple[Node, Node]
    me: Node
    peer: Node
    reserve: Annotated[int, "integer(0, 16777216, default=256)", "MiB, from 0 on"] = 256
    pause: Annotated[float, "float(0, 3600, default=0)", "seconds from 0 to 3600"] = 0.0

    @property
    def second(self) -> bool:
        """Am I the second node of the file (who looks again before fencing)?"""
        return self.me is self.nodes[1]

    @property
    def secret(self) -> str:
        return f"{os.path.dirname(self.file)}/secret"

    @property
    def vm_folder(self) -> str:
        return f"{os.path.dirname(self.file)}/vm"


class Vm(NamedTuple):
    """vm/NAME.conf; memory in MiB, stop_timeout in seconds."""

    name: str
    node: Annotated[str, "string", "the name of its home node"]
    memory: Annotated[int, "integer(16, 16777216)", "MiB, from 16 on"]
    cpus: Annotated[int, "integer(1, 1024)", "a number from 1 to 1024"]
    bridge: Annotated[Words, "interfaces", "one or more names of bridges"]
    mac: Annotated[Words, "macs(default=list())", "one unicast MAC address for each bridge, as 02:00:c0:ff:ee:04"]
    order: Annotated[int, "integer(0, 1000000, default=50)", "a number from 0 to 1000000"]
    stop_timeout: Annotated[float, "float(1, 86400, default=120)", "seconds from 1 to 86400"]
    disk: Annotated[str, "option('scsi', 'virtio', 'ide', default='scsi')", "scsi, virtio or ide"]
    accel: Annotated[str, "option('kvm', 'tcg', default='kvm')", "kvm or tcg"]
    vnc: Annotated[str, "string(default='')", "a display address such as 127.0.0.1:1, or nothing"]
    clock: Annotated[str, "option('utc', 'localtime', default='utc')", "utc or localtime"]
    extra: Annotated[
        str, "string(default='')", "QEMU arguments as typed in a shell (quote them where they have commas)"
    ]
    watchdog: Annotated[str, "option('no', 'yes', default='no')", "no or yes"] = "no"


class Unread(NamedTuple):
    """A VM whose file cannot be read: all that is known of it."""

    name: str
    node: str = ""


Resource = Vm | Unread  # a VM as far as its disks go


def _keys(kind: type) -> Keys:
    """The fields that are keys of the file: each with its check, and what a person should have written."""
    return {key: hint.__metadata__ for key, hint in kind.__annotations__.items() if hasattr(hint, "__metadata__")}


CLUSTER, NODE, VM = _keys(Config), _keys(Node), _keys(Vm)


def _word(value: object, form: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(form, value):
        raise VdtValueError(value)
    return value


def _words(value: str | list[str], form: str) -> list[str]:
    return [_word(word, form) for word in ([value] if isinstance(value, str) else value)]


def _is_address(value: object) -> str:
    address = _word(value, r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
    numbers = [int(part) for part in address.split(".")]
    if max(numbers) > 255 or numbers[0] in (0, 127) or numbers[0] >= 224:
        raise VdtValueError(value)
    return address


def _is_name(value: object) -> str:
    return _word(value, r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def _is_interfaces(value: str | list[str]) -> list[str]:
    names = _words(value, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
    if not names:
        raise VdtValueError(value)
    return names


def _is_macs(value: str | list[str]) -> list[str]:
    unicast = r"(?!(00:){5}00)[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}"
    macs = [mac.lower() for mac in _words(value, unicast)]
    if len(set(macs)) < len(macs):
        raise VdtValueError(value)
    return macs


CHECKS = {"address": _is_address, "name": _is_name, "interfaces": _is_interfaces, "macs": _is_macs}


def mistake(file: str, section: str, key: str, value: object, expected: str) -> str:
    """One line that names everything a person needs to mend it."""
    shown = "missing" if value is None else f"value {value!r}"
    return f"{file}: section {section or 'top'}, key {key}, {shown}: expected {expected}"


def _parse(file: str, spec: list[str], what: Keys) -> tuple[ConfigObj, list[str]]:
    try:
        found = ConfigObj(file, configspec=spec, file_error=True, interpolation=False, encoding="utf-8")
    except OSError as error:
        raise Failure(Exit.CONFIG, f"{file}: {error.strerror or 'not found'}: expected a configuration file") from None
    except (ConfigObjError, UnicodeError) as error:
        raise Failure(Exit.CONFIG, f"{file}: {error}: expected lines `key = value`") from None
    raw = found.dict()

    def wrong(path: list[str], expected: str) -> str:
        return mistake(file, "/".join(path[:-1]), path[-1], _dig(raw, path), expected)

    result = found.validate(Validator(CHECKS), preserve_errors=True)
    mistakes = [
        wrong([*sections, key], what[key][1]) if key else wrong(sections, "a [section] of that name")
        for sections, key, _ in flatten_errors(found, result)
    ]
    nothing = "no such key; known are " + ", ".join(sorted(what))
    return found, mistakes + [wrong([*sections, key], nothing) for sections, key in get_extra_values(found)]


def _dig(raw: object, keys: list[str]) -> object:
    for key in keys:
        if not isinstance(raw, dict):
            return None
        raw = raw.get(key)
    return raw


def _fail(mistakes: list[str]) -> None:
    if mistakes:
        raise Failure(Exit.CONFIG, "\n".join(mistakes))


def hostname() -> str:
    """This node's name; KC_NODE overrides it for laboratories."""
    return os.environ.get("KC_NODE") or os.uname().nodename.split(".")[0]


def load(file: str) -> Config:
    """Read kisscluster.conf; raises Failure CONFIG with a line for every mistake."""
    spec = [f"{key} = {check}" for key, (check, _) in CLUSTER.items()]
    spec += ["[nodes]", "[[__many__]]"] + [f"{key} = {check}" for key, (check, _) in NODE.items()]
    found, mistakes = _parse(file, spec, {**CLUSTER, **NODE})
    _fail(mistakes)
    section = found["nodes"]
    mistakes = _node_mistakes(file, section)
    if found["deadtime"] < 4 * found["interval"]:
        mistakes.append(mistake(file, "", "deadtime", found["deadtime"], "at least four intervals"))
    mistakes += _address_mistakes(file, found)
    _fail(mistakes)
    first, second = (Node(name, **{key: section[name][key] for key in NODE}) for name in section.sections)
    mine = hostname()
    if mine not in (first.name, second.name):
        _fail([mistake(file, "nodes", "this host's name", mine, f"{first.name} or {second.name}")])
    me, peer = (first, second) if mine == first.name else (second, first)
    return Config(file=file, nodes=(first, second), me=me, peer=peer, **{key: found[key] for key in CLUSTER})


def _node_mistakes(file: str, nodes: ConfigObj) -> list[str]:
    out = [mistake(file, "nodes", name, nodes[name], "a node's section, [[NAME]]") for name in nodes.scalars]
    if len(nodes.sections) != 2:
        out.append(mistake(file, "nodes", "nodes", ", ".join(nodes.sections), "exactly two nodes"))
    for name in nodes.sections:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
            out.append(mistake(file, "nodes", "node", name, "a host name without its domain"))
    return out


def _address_mistakes(file: str, found: ConfigObj) -> list[str]:
    used: dict[str, str] = {found["ping"]: "ping"}
    out = []
    for name, key in product(found["nodes"].sections, ("production", "storage")):
        address, mine = found["nodes"][name][key], f"{name}'s {key}"
        if (owner := used.setdefault(address, mine)) != mine:
            out.append(mistake(file, f"nodes/{name}", key, address, OWN + owner))
    return out


def derived_mac(name: str, index: int) -> str:
    """A locally administered MAC that depends on the VM's name only: the same on both nodes."""
    octets = [*zlib.crc32(name.encode()).to_bytes(4, "big"), index]
    return "02:" + ":".join(f"{octet:02x}" for octet in octets)


def load_vm(config: Config, name: str) -> Vm:
    """Read one vm/NAME.conf; raises Failure CONFIG with a line for every mistake."""
    file = f"{config.vm_folder}/{name}.conf"
    if not is_vm_name(name):
        _fail([mistake(file, "", "file name", name, "[a-z][a-z0-9_]{0,14}.conf, and none of all, home, none, hold")])
    found, mistakes = _parse(file, [f"{key} = {check}" for key, (check, _) in VM.items()], VM)
    _fail(mistakes)
    homes = [node.name for node in config.nodes]
    if found["node"] not in homes:
        _fail([mistake(file, "", "node", found["node"], " or ".join(homes))])
    bridges, macs = found["bridge"], found["mac"]
    if macs and len(macs) != len(bridges):
        _fail([mistake(file, "", "mac", ", ".join(macs), VM["mac"][1])])
    values = {key: found[key] for key in VM if key not in ("bridge", "mac")}
    derived = tuple(derived_mac(name, index) for index in range(len(bridges)))
    return Vm(name=name, bridge=tuple(bridges), mac=tuple(macs) or derived, **values)


def _vm_files(config: Config) -> list[str]:
    try:
        found = os.listdir(config.vm_folder)
    except FileNotFoundError:
        return []
    return sorted(name for name in found if name.endswith(".conf") and not name.startswith("."))


def load_vms(config: Config) -> tuple[list[Vm], list[str]]:
    """All VMs that may be managed, by start order, and a line for every mistake in the files of the others."""
    vms: list[Vm] = []
    mistakes: list[str] = []
    for file in _vm_files(config):
        try:
            vms.append(load_vm(config, file.removesuffix(".conf")))
        except Failure as failure:
            mistakes += str(failure).split("\n")
    twice = _same_macs(config, vms)
    mistakes += twice.values()
    return sorted((vm for vm in vms if vm.name not in twice), key=lambda vm: (vm.order, vm.name)), mistakes


def _same_macs(config: Config, vms: list[Vm]) -> dict[str, str]:
    used: dict[str, str] = {}
    out: dict[str, str] = {}
    for vm in vms:
        for mac in vm.mac:
            if (owner := used.setdefault(mac, vm.name)) != vm.name:
                out[vm.name] = mistake(f"{config.vm_folder}/{vm.name}.conf", "", "mac", mac, OWN + owner)
    return out


def digest(config: Config) -> str:
    """One word for what the configuration files say; differs between nodes whose files differ."""
    total = 0
    for file in [config.file, *(f"{config.vm_folder}/{name}" for name in _vm_files(config))]:
        with open(file, "rb") as stream:
            total = zlib.crc32(os.path.basename(file).encode() + b"\0" + stream.read() + b"\0", total)
    return f"{total:08x}"


def read_secret(file: str, copy: str | None = None) -> bytes:
    """The shared key, from `copy` where systemd handed one over (systemd.exec(5), LoadCredential=).

    Raises Failure when it is missing or too short, or when group or others may read the file itself.
    """
    try:
        mode = os.stat(file).st_mode & 0o777
        with open(copy or file, "rb") as stream:
            key = stream.read(4096).strip()
    except FileNotFoundError:
        raise Failure(Exit.CONFIG, f"{file}: not found: expected the shared key, make it with kc-keygen") from None
    if mode & 0o077:
        raise Failure(Exit.CONFIG, f"{file}: mode {mode:04o}: expected 0600, nobody but root may read it")
    if len(key) < 32:
        raise Failure(Exit.CONFIG, f"{file}: {len(key)} characters: expected at least 32, make it with kc-keygen")
    return key
