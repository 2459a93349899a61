#!/usr/bin/python
"""Refuse, before anything is changed, what a node could not do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check
short_description: Refuse what a node could not do, before anything is changed
description:
  - Has the definitions read by the KISScluster that is installed on the node, and looks at what they need there.
options:
  look:
    description: What C(kisscluster.pair.look) said of this node.
    type: dict
    required: true
  vms:
    description: What every VM shall be, from C(kisscluster.pair.plan).
    type: list
    elements: dict
    required: true
  absent:
    description: The VMs that shall be removed, from C(kisscluster.pair.plan).
    type: list
    elements: dict
    required: true
  node:
    description: This node's name.
    type: str
    required: true
  config:
    description: The pair's configuration.
    type: path
    default: /etc/kisscluster/kisscluster.conf
  lib:
    description: Where the modules of the kisscluster package are.
    type: path
    default: /usr/share/kisscluster/lib
author:
  - KISScluster maintainers
"""

EXAMPLES = r"""
- name: Check
  kisscluster.pair.check:
    look: "{{ look }}"
    vms: "{{ plan.vms }}"
    absent: "{{ plan.absent }}"
    node: "{{ inventory_hostname }}"
"""

RETURN = r"""
"""

import os
import shutil
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def refused_texts(module: AnsibleModule) -> list[str]:
    """What the node's own KISScluster says of all the VMs' files."""
    given = module.params
    sys.path.insert(0, given["lib"])
    try:
        from kisscluster.base.config import load, load_vms
        from kisscluster.base.exits import Failure
    except ImportError as error:
        module.fail_json(f"{error}: run kisscluster.pair.install first")
    os.makedirs(f"{module.tmpdir}/vm", exist_ok=True)
    shutil.copy(given["config"], f"{module.tmpdir}/kisscluster.conf")
    for vm in given["vms"]:
        with open(f"{module.tmpdir}/vm/{vm['name']}.conf", "w", encoding="utf-8") as stream:
            stream.write(vm["text"])
    try:
        _, mistakes = load_vms(load(f"{module.tmpdir}/kisscluster.conf"))
    except Failure as failure:
        return [str(failure)]
    return [line.replace(f"{module.tmpdir}/", "") for line in mistakes]


def missing_files(module: AnsibleModule, vm: dict[str, Any]) -> list[str]:
    """What a new VM is to be made from, on its home."""
    if vm["name"] in module.params["look"]["vms"] or vm["node"] != module.params["node"]:
        return []
    out = [f"{vm['name']}: {vm[key]}: no such file on {vm['node']}, its home"
           for key in ("import", "iso") if vm[key] and not os.path.isfile(vm[key])]
    if vm["import"] and not shutil.which("qemu-img"):
        out.append(f"{vm['name']}: import needs qemu-img on {vm['node']}: apt install qemu-utils")
    return out


def missing_pools(module: AnsibleModule, vm: dict[str, Any]) -> list[str]:
    """Volume groups and directories that its disks want."""
    folders = {os.path.dirname(disk["path"]) for disk in vm["disks"] if not os.path.exists(disk["path"])}
    out = []
    for folder in sorted(folders):
        group = folder[len("/dev/") :] if folder.startswith("/dev/") else ""
        if group and module.run_command(["vgs", "--noheadings", group])[0]:
            out.append(f"{vm['name']}: no volume group {group} on {module.params['node']}")
        if not group and not os.path.isdir(folder):
            out.append(f"{vm['name']}: no directory {folder} on {module.params['node']}")
    return out


def busy(module: AnsibleModule) -> list[str]:
    """VMs that would have to be stopped first."""
    look, node = module.params["look"], module.params["node"]
    out = [f"{vm['name']} runs on {node}, and shall be removed: kc-vm-stop {vm['name']}"
           for vm in module.params["absent"] if vm["name"] in look["running"]]
    for vm in module.params["vms"]:
        has = len(look["resources"].get(vm["name"], {}).get("disks", vm["disks"]))
        if vm["name"] in look["running"] and has < len(vm["disks"]):
            out.append(f"{vm['name']} runs on {node}, and shall get a disk: kc-vm-stop {vm['name']}")
    return out


def main() -> None:
    """Fail with everything that is wrong at once."""
    module = AnsibleModule(
        {
            "look": {"type": "dict", "required": True},
            "vms": {"type": "list", "elements": "dict", "required": True},
            "absent": {"type": "list", "elements": "dict", "required": True},
            "node": {"type": "str", "required": True},
            "config": {"type": "path", "default": "/etc/kisscluster/kisscluster.conf"},
            "lib": {"type": "path", "default": "/usr/share/kisscluster/lib"},
        },
        supports_check_mode=True,
    )
    wrong = refused_texts(module) + busy(module)
    for vm in module.params["vms"]:
        wrong += missing_files(module, vm) + missing_pools(module, vm)
    if wrong:
        module.fail_json("\n".join(wrong))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
