"""What the definitions say, and the port and minors of every VM: pure, no files, no clock."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

# of kisscluster-vm(5), in the order in which they are written
KEYS = ("node", "memory", "cpus", "bridge", "mac", "order", "stop_timeout", "disk", "accel", "vnc", "clock", "extra",
        "watchdog")
OWN = ("state", "disks", "pool", "import", "iso", "remove_disks")
STATES = ("present", "absent")
NAME = re.compile(r"[a-z][a-z0-9_]{0,14}\Z")
RESERVED = ("all", "home", "none", "hold")
UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LAST_PORT = 65535

Values = Mapping[str, Any]


class Mistakes(Exception):
    """What a person has to mend in the definitions, a line each."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))


class Plan(NamedTuple):
    """vms: what every VM shall be; absent: those to be removed; numbers: what the file numbers.yml shall say."""

    vms: list[dict[str, Any]]
    absent: list[dict[str, Any]]
    numbers: dict[str, Any]


def size_of(text: object) -> int | None:
    """Bytes of 512M, 20G, 2T; None for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([MGT])", text) if isinstance(text, str) else None
    return int(found[1]) * UNITS[found[2]] if found else None


def with_metadata(size: int) -> int:
    """Bytes a disk needs so that DRBD, which keeps its own data at the end, leaves `size` of them (FACTS 1.8)."""
    blocks = size // (128 << 20) + size // (4 << 40) + 2
    whole = size + blocks * 4096 + (36 << 10)
    return -(-whole // (1 << 20)) * (1 << 20)


def conf_text(values: Values) -> str:
    """The text of vm/NAME.conf; raises ValueError for a value that it cannot hold."""
    return "".join(f"{key} = {_written(values[key])}\n" for key in KEYS if key in values)


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_quoted(item) for item in value) + ("," if len(value) < 2 else "")
    return _quoted(value)


def _quoted(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r}: expected a text or a number; put it in quotes")
    text = str(value)
    if not text.isprintable() or '"' in text and "'" in text:
        raise ValueError(f"{value!r}: expected one line with one kind of quotes")
    if text and not re.search(r"[\"',#]", text) and text == text.strip():
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def planned(
    files: Mapping[str, Values],
    numbers: Mapping[str, Any],
    seen: Mapping[str, Mapping[str, Any]],
    first_port: int,
    first_minor: int,
) -> Plan:
    """The plan for these definitions; raises Mistakes.

    files: each VM's definition by its name. numbers: what was allocated before. seen: for each node its DRBD
    resources. A number is never changed and never given twice: not that of a removed VM, not that of a resource
    which somebody else made. With one node in seen the other is away: new VMs and new disks wait, and get no numbers.
    """
    mistakes = [line for name in sorted(files) for line in _wrong(name, files[name])] + _shared(files)
    if mistakes:
        raise Mistakes(mistakes)
    known = copy.deepcopy(dict(numbers))
    _adopt(files, known, seen)
    made = _made(seen)
    _unique(known, made)
    wanted = _wanted(files)
    for name in wanted:
        _keeps_all(name, files[name], known.get(name, {"disks": []}), made.get(name, 0))
    alone = len(seen) == 1
    files = _at_once(files, made) if alone else files
    present = [name for name in wanted if made.get(name) or not alone]
    for name in present:
        _allocate(name, files[name], known, _Free(known, seen, first_port, first_minor))
    absent = [name for name in sorted(files) if name not in wanted]
    gone = [_gone(name, files[name], known.get(name, {})) for name in absent]
    return Plan([_vm(name, files[name], known[name]) for name in present], gone, known)


def _gone(name: str, values: Values, numbers: Values) -> dict[str, Any]:
    return {"name": name, "remove_disks": bool(values.get("remove_disks")), "disks": numbers.get("disks", [])}


def _vm(name: str, values: Values, numbers: Values) -> dict[str, Any]:
    """What one VM shall be; disks that wait for the other node have numbers and no size."""
    disks = [{"volume": volume, "minor": disk["minor"], "path": disk["path"], "size": size_of(size),
              "whole": with_metadata(size_of(size) or 0)}
             for volume, (disk, size) in enumerate(zip(numbers["disks"], values["disks"], strict=False))]
    return {"name": name, "node": values["node"], "text": conf_text(values), "port": numbers["port"], "disks": disks,
            "import": values.get("import", ""), "iso": values.get("iso", "")}


def _wrong(name: str, values: Values) -> list[str]:
    """What is wrong with one definition, as far as can be told without a node."""
    where = f"vm/{name}.yml"
    if not NAME.match(name) or name in RESERVED:
        return [f"{where}: expected [a-z][a-z0-9_]{{0,14}}.yml, and none of {', '.join(RESERVED)}"]
    unknown = [key for key in values if key not in KEYS and key not in OWN]
    out = [f"{where}: key {key}: no such key; known are {', '.join(sorted(KEYS + OWN))}" for key in unknown]
    if values.get("state", "present") not in STATES:
        out.append(f"{where}: key state, value {values['state']!r}: expected {' or '.join(STATES)}")
    if values.get("state") == "absent":
        return out
    if values.get("remove_disks"):
        out.append(f"{where}: key remove_disks: expected only beside state: absent")
    missing = [key for key in ("node", "memory", "cpus", "bridge", "disks") if key not in values]
    return out + [f"{where}: key {key}: missing" for key in missing] + _wrong_values(where, values)


def _wanted(files: Mapping[str, Values]) -> list[str]:
    """The VMs that are to be there."""
    return [name for name in sorted(files) if files[name].get("state", "present") == "present"]


def _shared(files: Mapping[str, Values]) -> list[str]:
    """What two VMs have that only one may: after a failover they run side by side."""
    out = []
    holders: dict[tuple[str, str], str] = {}
    for name in _wanted(files):
        for key in ("vnc", "mac"):
            value = files[name].get(key)
            same = str(value).rpartition(":")[2] if key == "vnc" else str(value).lower()  # the display counts
            other = holders.setdefault((key, same), name)
            if value and other != name:
                where = f"vm/{name}.yml: key {key}, value {value!r}"
                out.append(f"{where}: {other} has the same, and both may run on one node")
    return out


def _wrong_values(where: str, values: Values) -> list[str]:
    out = []
    for key in KEYS:
        try:
            conf_text({key: values[key]} if key in values else {})
        except ValueError as error:
            out.append(f"{where}: key {key}, value {error}")
    sizes = values.get("disks", ["1G"])
    if not isinstance(sizes, list) or not sizes or not all(size_of(size) for size in sizes):
        out.append(f"{where}: key disks, value {sizes!r}: expected a list of sizes such as 512M, 20G or 2T")
    for key in ("import", "iso"):
        if key in values and not re.fullmatch(r"/[^\s'\"]+", str(values[key])):
            out.append(f"{where}: key {key}, value {values[key]!r}: expected a file's absolute path on the home node")
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+|/[\w/.+-]+", str(values.get("pool", "vg0"))):
        out.append(f"{where}: key pool, value {values['pool']!r}: expected a volume group, or a directory for files")
    return out


def _adopt(files: Mapping[str, Values], known: dict[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> None:
    """Numbers that a node uses already are kept, if all that is known of them agrees."""
    mistakes = []
    for node, resources in seen.items():
        for name, found in resources.items():
            if name not in files:
                continue
            record = known.setdefault(name, copy.deepcopy(found))
            common = min(len(record["disks"]), len(found["disks"]))
            if record["port"] != found["port"] or record["disks"][:common] != found["disks"][:common]:
                mistakes.append(f"{name}: {node} has {_told(found)}; numbers.yml or the other node has {_told(record)}")
            record["disks"] += copy.deepcopy(found["disks"][common:])
    if mistakes:
        raise Mistakes(mistakes)


def _made(seen: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many disks each resource has, on the node where it has the most."""
    made: dict[str, int] = {}
    for resources in seen.values():
        for name, found in resources.items():
            made[name] = max(made.get(name, 0), len(found["disks"]))
    return made


def _unique(known: Values, made: Mapping[str, int]) -> None:
    """Nothing twice: git merges without a word what two nodes gave to different VMs while each was alone."""
    holders: dict[str, str] = {}
    for name in sorted(known, key=lambda name: (name not in made, name)):
        record = known[name]
        for what in [f"port {record['port']}", *(f"minor {disk['minor']}" for disk in record["disks"])]:
            other = holders.setdefault(what, name)
            if other != name:
                down = f"on the node that has it drbdadm down {name}, remove /etc/drbd.d/{name}.res, and "
                raise Mistakes([f"numbers.yml: {other} and {name} both have {what}: {down if name in made else ''}"
                                f"delete what it says of {name}, which then gets new numbers"])


def _at_once(files: Mapping[str, Values], made: Mapping[str, int]) -> dict[str, Values]:
    """Without the disks that are not made yet: also those that have their numbers wait, as a try was refused."""
    return {name: {**values, "disks": values.get("disks", [])[: made.get(name, 0)]} for name, values in files.items()}


def _keeps_all(name: str, values: Values, record: Values, made: int) -> None:
    """No disk is taken away; that those which no node uses are gone, only a person can say."""
    if len(values["disks"]) < len(record["disks"]):
        told = f"vm/{name}.yml: key disks: it has {len(record['disks'])} disks: none is ever taken from a VM"
        gone = f"; if they were never made, or removed with an earlier {name}: delete what numbers.yml says of {name}"
        raise Mistakes([told + (gone if made < len(record["disks"]) else "")])


def _told(record: Values) -> str:
    disks = ", ".join(f"minor {disk['minor']} {disk['path']}" for disk in record["disks"])
    return f"port {record['port']}, {disks}"


class _Free:
    """The lowest numbers that nobody has and nobody had."""

    def __init__(
        self, known: Values, seen: Mapping[str, Mapping[str, Any]], first_port: int, first_minor: int
    ) -> None:
        records = [*known.values(), *(found for resources in seen.values() for found in resources.values())]
        self.ports = {record["port"] for record in records}
        self.minors = {disk["minor"] for record in records for disk in record["disks"]}
        self.first_port, self.first_minor = first_port, first_minor

    def port(self) -> int:
        found = next(port for port in range(self.first_port, LAST_PORT + 2) if port not in self.ports)
        if found > LAST_PORT:
            raise Mistakes([f"no port is free from {self.first_port} on"])
        return found

    def minor(self) -> int:
        found = next(minor for minor in range(self.first_minor, 1 << 20) if minor not in self.minors)
        self.minors.add(found)
        return found


def _allocate(name: str, values: Values, known: dict[str, Any], free: _Free) -> None:
    """Fill up what this VM lacks; disks are only ever added."""
    record = known.setdefault(name, {"port": free.port(), "disks": []})
    pool = str(values["pool"])
    folder = pool if pool.startswith("/") else f"/dev/{pool}"
    for volume in range(len(record["disks"]), len(values["disks"])):
        path = f"{folder}/{name}" + (f".{volume}" if volume else "")
        record["disks"].append({"minor": free.minor(), "path": path})
