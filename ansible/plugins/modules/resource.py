#!/usr/bin/python
"""A VM's DRBD resource: meta-data on disks that have none, then up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: resource
short_description: Give a VM's disks DRBD meta-data and bring the resource up
description:
  - Meta-data is written only where DRBD says that there is none. An answer that is not understood is a failure.
options:
  name:
    description: The resource, which is the VM.
    type: str
    required: true
  volumes:
    description: The numbers of its disks.
    type: list
    elements: int
    required: true
  renewed:
    description: Its file has just changed.
    type: bool
    default: false
author:
  - KISScluster maintainers
"""

EXAMPLES = r"""
- name: Resource of web1
  kisscluster.pair.resource:
    name: web1
    volumes: [0]
"""

RETURN = r"""
fresh:
  description: The volumes that never had data.
  type: list
  elements: int
  returned: always
"""

import os

from ansible_collections.kisscluster.pair.plugins.module_utils.node import JUST_CREATED, identifier

from ansible.module_utils.basic import AnsibleModule


class Resource:
    """drbdadm for one resource."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.volumes: list[int] = module.params["volumes"]

    def drbdadm(self, *words: str) -> None:
        self.module.run_command(["drbdadm", *words], check_rc=True)

    def identifiers(self) -> dict[int, str | None]:
        """DRBD's identifier of each disk's data."""
        out = {}
        for volume in self.volumes:
            disk = f"{self.name}/{volume}"
            status, said, talk = self.module.run_command(["drbdadm", "get-gi", disk])
            if status:  # 1 and not a word where there is no meta-data; dump-md says so
                status, said, talk = self.module.run_command(["drbdadm", "dump-md", disk])
            try:
                out[volume] = identifier(status, said if status == 0 else f"{said} {talk}")
            except ValueError as error:
                if not self.module.check_mode:
                    self.module.fail_json(f"{disk}: {error}")
                out[volume] = None  # its file is not written in check mode
        return out

    def is_up(self) -> bool:
        return bool(self.module.run_command(["drbdadm", "role", self.name])[0] == 0)

    def make(self, empty: list[int]) -> None:
        """Meta-data for new disks. The kernel meets a new volume only when it connects: so down, if others are up.

        Where no disk is new nothing goes down: a guest may write.
        """
        for volume in empty:
            self.drbdadm("create-md", "--force", f"{self.name}/{volume}")
        if empty and self.is_up():
            self.drbdadm("down", self.name)


def main() -> None:
    """One resource."""
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "volumes": {"type": "list", "elements": "int", "required": True},
            "renewed": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    resource = Resource(module)
    if module.check_mode and not os.path.exists(f"/etc/drbd.d/{resource.name}.res"):
        module.exit_json(changed=True, fresh=resource.volumes)
    empty = [volume for volume, found in resource.identifiers().items() if found is None]
    changed = bool(empty or module.params["renewed"] or not resource.is_up())
    if changed and not module.check_mode:
        resource.make(empty)
        resource.drbdadm("adjust", resource.name)
    fresh = [volume for volume, found in resource.identifiers().items() if found in (None, JUST_CREATED)]
    module.exit_json(changed=changed, fresh=fresh)


if __name__ == "__main__":
    main()
