"""What the modules ask a node: programs, its DRBD resources, the size of a device."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from typing import Any

BY_RES = "/dev/drbd/by-res"
# a disk that never had data: DRBD's identifier of what create-md made
JUST_CREATED = "0000000000000004"


def resources(text: str, node: str) -> dict[str, dict[str, Any]]:
    """A node's port, minors and disks of each resource, from `drbdadm dump-xml`; others than ours are left out."""
    out = {}
    for resource in ElementTree.fromstring(text).iter("resource"):
        host = next((host for host in resource.findall("host") if host.get("name", "").split(".")[0] == node), None)
        address = None if host is None else host.find("address")
        if host is None or address is None:
            continue
        disks = {int(volume.get("vnr", "0")): _disk(volume) for volume in host.findall("volume")}
        if sorted(disks) == list(range(len(disks))) and disks:
            ordered = [disks[number] for number in sorted(disks)]
            out[resource.get("name", "")] = {"port": int(address.get("port", "0")), "disks": ordered}
    return out


def _disk(volume: ElementTree.Element) -> dict[str, Any]:
    device = volume.find("device")
    minor = "0" if device is None else device.get("minor", "0")
    return {"minor": int(minor), "path": (volume.findtext("disk") or "").strip()}


def identifier(status: int, said: str) -> str | None:
    """DRBD's identifier of a disk's data, from `drbdadm get-gi`; None where the disk has no meta-data, by `dump-md`.

    Raises ValueError for any other answer: what cannot be told must not be taken for an empty disk.
    """
    first = said.strip().split(":")[0]
    if status == 0 and len(first) == 16 and all(digit in "0123456789ABCDEFabcdef" for digit in first):
        return first.upper()
    if status and "no valid meta" in said.lower():
        return None
    raise ValueError(f"drbdadm: {status}: {' '.join(said.split())}")


def device_size(name: str, volume: int) -> int:
    """Bytes of a VM's DRBD device, which only a primary may open; raises OSError where it is not up."""
    device = os.path.realpath(f"{BY_RES}/{name}/{volume}")
    try:
        with open(f"/sys/class/block/{os.path.basename(device)}/size", encoding="ascii") as stream:
            return int(stream.read()) * 512
    except FileNotFoundError:
        return os.stat(device).st_size
