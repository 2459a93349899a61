#!/usr/bin/python
"""What lies under a VM's DRBD device: a logical volume, or a file in a laboratory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: disk
short_description: Make, enlarge or remove what lies under a DRBD device
description:
  - A logical volume, or a plain file where the path is not below /dev. Never makes one smaller.
  - A logical volume that is there already is used only if this module made it, or if O(known) says that it belongs to
    the VM. The end of what is new is cleared, where DRBD would otherwise find the meta-data of an earlier disk.
options:
  path:
    description: C(/dev/GROUP/NAME), or a file's path.
    type: path
    required: true
  size:
    description: Bytes it must at least have.
    type: int
  known:
    description: The node's DRBD configuration names it already.
    type: bool
    default: false
  state:
    description: Shall it be there?
    type: str
    choices: [present, absent]
    default: present
author:
  - KISScluster maintainers
"""

EXAMPLES = r"""
- name: Disk of web1
  kisscluster.pair.disk:
    path: /dev/vg0/web1
    size: 21475885056
"""

RETURN = r"""
"""

import os
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule

MINE = "kisscluster"
HALF = "kisscluster_new"  # its end is not cleared yet
CLEARED = 1 << 20


class Found(NamedTuple):
    """A disk as it is, in bytes."""

    size: int
    extent: int
    tags: list[str]


def clear_end(path: str, start: int, end: int) -> None:
    """Overwrite the end of what is new, where DRBD keeps its meta-data; nothing before `start` is touched."""
    start = max(start, end - CLEARED)
    with open(path, "r+b") as stream:
        stream.seek(start)
        stream.write(bytes(end - start))
        stream.flush()
        os.fsync(stream.fileno())


class File:
    """A plain file."""

    def __init__(self, module: AnsibleModule, path: str) -> None:
        self.path = path

    def found(self) -> Found | None:
        if not os.path.exists(self.path):
            return None
        return Found(os.stat(self.path).st_size, 1 << 20, [MINE])

    def make(self, size: int) -> None:
        with open(f"{self.path}.new", "wb") as stream:
            stream.truncate(size)
        os.rename(f"{self.path}.new", self.path)

    def finish(self, size: int) -> None:
        """A file is whole as soon as it is there."""

    def grow(self, before: int, size: int) -> None:
        os.truncate(self.path, size)

    def remove(self) -> None:
        os.unlink(self.path)


class Volume:
    """A logical volume; a tag says that it is ours."""

    def __init__(self, module: AnsibleModule, path: str) -> None:
        self.path = path
        self.module = module
        self.name = path[len("/dev/") :]

    def run(self, *argv: str) -> str:
        return str(self.module.run_command(list(argv), check_rc=True)[1])

    def found(self) -> Found | None:
        group, name = self.name.split("/")
        columns = "lv_size,vg_extent_size,lv_tags"
        told = self.run("lvs", "--noheadings", "--nosuffix", "--units=b", "-o", columns, "-S", f"lv_name={name}", group)
        fields = told.split()
        if not fields:
            return None
        return Found(int(fields[0]), int(fields[1]), fields[2].split(",") if len(fields) > 2 else [])

    def make(self, size: int) -> None:
        group, name = self.name.split("/")
        half = f"--addtag={HALF}"
        self.run("lvcreate", "--yes", "--wipesignatures=y", half, f"--size={size}b", f"--name={name}", group)
        made = self.found()
        self.finish(made.size if made else size)

    def finish(self, size: int) -> None:
        clear_end(self.path, 0, size)
        self.run("lvchange", f"--deltag={HALF}", f"--addtag={MINE}", self.name)

    def grow(self, before: int, size: int) -> None:
        self.run("lvextend", f"--size={size}b", self.name)
        grown = self.found()
        clear_end(self.path, before, grown.size if grown else size)

    def remove(self) -> None:
        self.run("lvremove", "--yes", self.name)


def ensure(module: AnsibleModule, disk: File | Volume, size: int) -> bool:
    """Make it so; True when something was, or would be, changed."""
    found, dry = disk.found(), module.check_mode
    if found is None:
        if not dry:
            disk.make(size)
        return True
    if HALF in found.tags:
        if not dry:
            disk.finish(found.size)
    elif MINE not in found.tags and not module.params["known"]:
        module.fail_json(
            f"{disk.path} is there already, and is no VM's disk. To take it, whatever is on it: "
            f"lvchange --addtag {MINE} {disk.path}"
        )
    if found.size >= size + found.extent:
        module.fail_json(f"{disk.path} has {found.size >> 20} MiB: a disk is never made smaller")
    if found.size < size and not dry:
        disk.grow(found.size, size)
    return found.size < size or HALF in found.tags


def main() -> None:
    """One disk."""
    module = AnsibleModule(
        {
            "path": {"type": "path", "required": True},
            "size": {"type": "int"},
            "known": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("size",))],
        supports_check_mode=True,
    )
    path = module.params["path"]
    disk = Volume(module, path) if path.startswith("/dev/") else File(module, path)
    if module.params["state"] == "present":
        module.exit_json(changed=ensure(module, disk, module.params["size"]))
    there = disk.found() is not None
    if there and not module.check_mode:
        disk.remove()
    module.exit_json(changed=there)


if __name__ == "__main__":
    main()
