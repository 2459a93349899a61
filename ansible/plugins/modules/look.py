#!/usr/bin/python
"""What a node has: its DRBD resources, its VMs, the addresses of the pair."""

from __future__ import annotations

DOCUMENTATION = r"""
module: look
short_description: Say which DRBD resources and VMs a node has
description:
  - Changes nothing.
options:
  config:
    description: The pair's configuration.
    type: path
    default: /etc/kisscluster/kisscluster.conf
author:
  - KISScluster maintainers
"""

EXAMPLES = r"""
- name: Look
  kisscluster.pair.look:
  register: look
"""

RETURN = r"""
storage:
  description: The storage address of each node.
  type: dict
  returned: always
resources:
  description: Port, minors and disks of each DRBD resource.
  type: dict
  returned: always
vms:
  description: The VMs that are configured.
  type: list
  elements: str
  returned: always
running:
  description: The VMs that run here, or whose disk is primary here.
  type: list
  elements: str
  returned: always
"""

import glob
import os
from typing import Any

from ansible_collections.kisscluster.pair.plugins.module_utils.node import resources

from ansible.module_utils.basic import AnsibleModule


def storage(module: AnsibleModule, file: str) -> dict[str, str]:
    """Each node's address on the storage network."""
    try:
        from configobj import ConfigObj
    except ImportError:
        module.fail_json("python3-configobj is missing: run kisscluster.pair.install first")
    try:
        nodes = ConfigObj(file, file_error=True, interpolation=False)["nodes"]
        return {name: nodes[name]["storage"] for name in nodes.sections}
    except (OSError, KeyError) as error:
        module.fail_json(f"{file}: {error}: run kisscluster.pair.install first")
        raise


def resources_of(module: AnsibleModule) -> dict[str, Any]:
    """The node's DRBD resources."""
    if not glob.glob("/etc/drbd.d/*.res"):
        return {}
    _, told, _ = module.run_command(["drbdadm", "dump-xml"], check_rc=True)
    return resources(told, os.uname().nodename.split(".")[0])


def running(module: AnsibleModule, names: set[str]) -> list[str]:
    """Of these those with a unit that is not at its end, or with a primary disk."""
    units = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating,reloading"]
    _, told, _ = module.run_command([*units, "kc-vm@*.service"], check_rc=True)
    up = {line.split()[0][len("kc-vm@") : -len(".service")] for line in told.splitlines() if line.strip()}
    for name in names - up:
        _, role, _ = module.run_command(["drbdadm", "role", name])
        if any(line.startswith("Primary/") for line in role.splitlines()):
            up.add(name)
    return sorted(up)


def main() -> None:
    """Look, and say."""
    module = AnsibleModule(
        {"config": {"type": "path", "default": "/etc/kisscluster/kisscluster.conf"}}, supports_check_mode=True
    )
    config = module.params["config"]
    found = resources_of(module)
    files = glob.glob(f"{os.path.dirname(config)}/vm/*.conf")
    vms = sorted(os.path.basename(file)[: -len(".conf")] for file in files)
    module.exit_json(
        changed=False,
        storage=storage(module, config),
        resources=found,
        vms=vms,
        running=running(module, set(found)),
    )


if __name__ == "__main__":
    main()
