#!/usr/bin/python
"""Read the definitions, allocate ports and minors, say what every VM shall be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Read the VM definitions and allocate what they need
description:
  - Runs where the definitions are. Reads C(defaults.yml) and C(vm/NAME.yml), and keeps in C(numbers.yml) the DRBD port
    and minors of every VM. What is there once is never changed and never given to another VM, also after a removal.
options:
  folder:
    description: The directory of the definitions.
    type: path
    required: true
  seen:
    description: For each node the DRBD resources that it has, as C(kisscluster.pair.look) returns them.
    type: dict
    required: true
  pool:
    description: Volume group of the disks of a VM whose definition names none.
    type: str
    required: true
  first_port:
    description: The lowest TCP port for DRBD.
    type: int
    required: true
  first_minor:
    description: The lowest minor of a DRBD device.
    type: int
    required: true
author:
  - KISScluster maintainers
"""

EXAMPLES = r"""
- name: Plan
  kisscluster.pair.plan:
    folder: /etc/kisscluster/definitions
    seen: {}
    pool: vg0
    first_port: 7790
    first_minor: 10
"""

RETURN = r"""
vms:
  description: What every VM shall be.
  type: list
  elements: dict
  returned: always
absent:
  description: The VMs that shall be removed.
  type: list
  elements: dict
  returned: always
"""

import os
from typing import Any

from ansible_collections.kisscluster.pair.plugins.module_utils.planning import Mistakes, planned

from ansible.module_utils.basic import AnsibleModule

try:
    import yaml
except ImportError:
    yaml = None

HEAD = "# Written by kisscluster.pair.plan: the DRBD ports and minors of the VMs. Commit it; change nothing in it.\n"


def read(path: str) -> Any:
    """The mapping in a YAML file; empty where there is no such file."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = yaml.safe_load(stream) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeError) as error:
        raise Mistakes([f"{path}: {' '.join(str(error).split())}"]) from None
    if not isinstance(found, dict):
        raise Mistakes([f"{path}: expected lines `key: value`"])
    return found


def definitions(folder: str, pool: str) -> dict[str, Any]:
    """Every VM's definition by its name, filled up from defaults.yml."""
    common = {"pool": pool, **read(f"{folder}/defaults.yml")}
    try:
        names = sorted(name for name in os.listdir(f"{folder}/vm") if name.endswith(".yml") and name[0] != ".")
    except FileNotFoundError:
        raise Mistakes([f"{folder}/vm: not found: expected a directory with a file NAME.yml for each VM"]) from None
    return {name[: -len(".yml")]: {**common, **read(f"{folder}/vm/{name}")} for name in names}


def main() -> None:
    """Plan, and write down what was allocated."""
    texts = {"type": "str", "required": True}
    module = AnsibleModule(
        {
            "folder": {"type": "path", "required": True},
            "seen": {"type": "dict", "required": True},
            "pool": texts,
            "first_port": {"type": "int", "required": True},
            "first_minor": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    if yaml is None:
        module.fail_json("python3-yaml is missing where Ansible runs")
    given = module.params
    file = f"{given['folder']}/numbers.yml"
    try:
        before = read(file)
        plan = planned(
            definitions(given["folder"], given["pool"]),
            before,
            given["seen"],
            given["first_port"],
            given["first_minor"],
        )
    except Mistakes as mistakes:
        module.fail_json(str(mistakes))
    changed = plan.numbers != before
    texts = [HEAD + yaml.safe_dump(numbers) if numbers else "" for numbers in (before, plan.numbers)]
    if changed and not module.check_mode:
        write(file, texts[1])
    diff = {"before": texts[0], "after": texts[1], "before_header": file, "after_header": file}
    module.exit_json(changed=changed, vms=plan.vms, absent=plan.absent, diff=diff if changed else {})


def write(file: str, text: str) -> None:
    """Whole or not at all: a number that is lost might be given twice."""
    with open(f"{file}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(f"{file}.new", file)


if __name__ == "__main__":
    main()
