#!/usr/bin/python
"""Let DRBD, and a guest that runs, see that a disk has grown."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grow
short_description: Let DRBD and the guest see that a disk has grown
description:
  - Runs on both nodes, after both disks are larger. The node where the disk is primary does it, else the VM's home,
    which makes it primary for that moment. The new part is taken as the same on both, as it is with new disks.
options:
  name:
    description: The VM.
    type: str
    required: true
  volume:
    description: The number of its disk.
    type: int
    required: true
  size:
    description: Bytes the guest shall at least see.
    type: int
    required: true
  home:
    description: Is this node the VM's home?
    type: bool
    required: true
author:
  - KISScluster maintainers
"""

EXAMPLES = r"""
- name: Grow
  kisscluster.pair.grow:
    name: web1
    volume: 0
    size: 21474836480
    home: true
"""

RETURN = r"""
waits:
  description: Why it could not be done now; empty when it is done, or is the other node's to do.
  type: str
  returned: always
"""

import fcntl
import json
import os
import time

from ansible_collections.kisscluster.pair.plugins.module_utils.node import device_size

from ansible.module_utils.basic import AnsibleModule

LOCKS = "/run/kisscluster/lock"
PATIENCE = 10.0  # seconds


class Disk:
    """One disk of a VM."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.volume: int = module.params["volume"]
        self.part = f"{self.name}/{self.volume}"

    def told(self, question: str) -> str:
        """The answer's first line, or nothing."""
        status, said, _ = self.module.run_command(["drbdadm", question, self.part])
        return str(said.split()[0]) if status == 0 and said.split() else ""

    def size(self) -> int:
        try:
            return device_size(self.name, self.volume)
        except OSError:
            return 0

    def waits(self) -> str:
        """Why DRBD cannot grow it now."""
        state, disks = self.told("cstate"), self.told("dstate")
        if state == "Connected" and disks == "UpToDate/UpToDate" and self.told("role") != "Primary/Primary":
            return ""
        return f"{self.part} is {state or 'not up'} {disks}: it grows when both copies are the same and it is not moved"

    def resize(self, wanted: int) -> None:
        """The size that both disks have; the new part is not resynced."""
        # what stands behind the -- goes to drbdsetup; drbdadm itself does not know that option
        self.module.run_command(["drbdadm", "--", "--assume-clean", "resize", self.part], check_rc=True)
        end = time.monotonic() + PATIENCE
        while self.size() < wanted:
            if time.monotonic() > end:
                self.module.fail_json(f"{self.part}: drbdadm resize said yes, and it has {self.size() >> 20} MiB still")
            time.sleep(0.2)

    def resize_as_primary(self, wanted: int) -> None:
        """DRBD wants a primary for it; the lock keeps kc-promote and kc-demote away meanwhile."""
        os.makedirs(LOCKS, exist_ok=True)
        with open(f"{LOCKS}/{self.name}", "a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.module.run_command(["drbdadm", "primary", self.name], check_rc=True)
            try:
                self.resize(wanted)
            finally:
                self.module.run_command(["drbdadm", "secondary", self.name], check_rc=True)

    def guest_sees(self) -> int | None:
        """Bytes QEMU shows; None where the VM does not run here."""
        status, said, talk = self.module.run_command(["kc-monitor", self.name, "qmp", "query-named-block-nodes"])
        if status == 1:
            return None
        if status:
            self.module.fail_json(f"kc-monitor: {status}: {talk.strip()}")
        sizes = {node.get("node-name"): node["image"]["virtual-size"] for node in json.loads(said)}
        return int(sizes[f"disk{self.volume}"]) if f"disk{self.volume}" in sizes else None

    def tell_guest(self, size: int) -> None:
        words = json.dumps({"node-name": f"disk{self.volume}", "size": size})
        self.module.run_command(["kc-monitor", self.name, "qmp", "block_resize", words], check_rc=True)


def grow(module: AnsibleModule, disk: Disk) -> bool:
    """DRBD first, then the guest; True when something was, or would be, changed."""
    wanted, roles = module.params["size"], disk.told("role")
    mine = roles.startswith("Primary/") or roles == "Secondary/Secondary" and module.params["home"]
    due = mine and disk.size() < wanted
    if due and (waits := disk.waits()):
        module.exit_json(changed=False, waits=waits)
    if due and not module.check_mode:
        (disk.resize if roles.startswith("Primary/") else disk.resize_as_primary)(wanted)
    seen = disk.guest_sees() if roles.startswith("Primary/") else None
    behind = seen is not None and seen < disk.size()
    if behind and not module.check_mode:
        disk.tell_guest(disk.size())
    return due or behind


def main() -> None:
    """One disk."""
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "volume": {"type": "int", "required": True},
            "size": {"type": "int", "required": True},
            "home": {"type": "bool", "required": True},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=grow(module, Disk(module)), waits="")


if __name__ == "__main__":
    main()
