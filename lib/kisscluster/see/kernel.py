"""What the kernel says: /proc/drbd and the names under /dev/drbd/by-res (FACTS 1.3), memory, processors."""

import os
import re

from kisscluster.decide.words import Drbd

_DEVICE = re.compile(r"\s*(\d+): cs:(\w+) ro:(\w+)/(\w+) ds:(\w+)/(\w+) . ([rs])")


def proc_drbd() -> str:
    return os.environ.get("KC_PROC_DRBD", "/proc/drbd")


def by_res() -> str:
    return os.environ.get("KC_BY_RES", "/dev/drbd/by-res")


def parse(text: str) -> dict[int, Drbd]:
    """The devices by minor; unconfigured ones and words that DRBD 8.4 does not know are left out."""
    out: dict[int, Drbd] = {}
    for line in text.splitlines():
        match = _DEVICE.match(line)
        word = Drbd.parse("{1} {2}/{3} {4}/{5} {6}".format(*match.groups())) if match else None
        if match and word:
            out[int(match[1])] = word
    return out


def minors(folder: str) -> dict[str, list[int]]:
    """The minors of each resource that is up, from its links VOLUME -> .../drbdMINOR."""
    out: dict[str, list[int]] = {}
    try:
        names = os.listdir(folder)
    except OSError:
        return out
    for name in names:
        try:
            volumes = os.listdir(f"{folder}/{name}")
            targets = [os.path.basename(os.readlink(f"{folder}/{name}/{volume}")) for volume in volumes]
        except OSError:
            continue
        found = [int(target[4:]) for target in targets if re.fullmatch(r"drbd\d{1,7}", target)]
        if found:
            out[name] = found
    return out


def read() -> dict[str, Drbd]:
    """One word for each resource all of whose volumes the kernel knows; {} where there is no DRBD."""
    try:
        with open(proc_drbd(), encoding="ascii", errors="replace") as stream:
            devices = parse(stream.read())
    except OSError:
        return {}
    named = minors(by_res()).items()
    return {name: Drbd.worst([devices[one] for one in all_]) for name, all_ in named if set(all_) <= set(devices)}


def any_frozen() -> bool:
    """Does a guest's write wait, whether or not its VM has a file that can be read?"""
    return any(word.frozen for word in read().values())


def volumes(name: str) -> list[str]:
    """The device names of a VM's disks, in order; [] where its resource is not up."""
    try:
        found = sorted((v for v in os.listdir(f"{by_res()}/{name}") if v.isdecimal()), key=int)
    except OSError:
        return []
    return [f"{by_res()}/{name}/{volume}" for volume in found]


def memory() -> int:
    """MiB of this machine; 0 where that cannot be told."""
    try:
        with open(os.environ.get("KC_MEMINFO", "/proc/meminfo"), encoding="ascii", errors="replace") as stream:
            match = re.match(r"MemTotal: *(\d+) kB", stream.readline())
    except OSError:
        return 0
    return int(match[1]) // 1024 if match else 0


def processors() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0))
