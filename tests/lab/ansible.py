"""Ansible on this machine against the nodes of a laboratory: as ssh would reach them, without one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from tests.lab import container_root
from tests.lab.build import CHECKOUT
from tests.lab.container import ContainerPair
from tests.lab.pair import NODES

# ssh's last words are the host and the command; here they are two files and a command for nsenter
SSH = """\
#!/bin/bash
node=${{@: -2:1}} command=${{@: -1}}
test -e "{base}/$node" || exec sh -c 'echo "$0: unreachable" >&2; exit 255' "$node"
exec env -i {environment} nsenter -t "$(cat "{base}/$node")" -a -- /bin/sh -c "$command"
"""


class Ansible:
    """The collection of this checkout, and an inventory of the two nodes."""

    def __init__(self, pair: ContainerPair, base: Path) -> None:
        self.pair, self.base = pair, base
        target = base / "collections/ansible_collections/kisscluster/pair"
        target.parent.mkdir(parents=True)
        target.symlink_to(CHECKOUT / "ansible")
        (base / "ansible.cfg").write_text("[ssh_connection]\npipelining = true\ntransfer_method = piped\n")
        environment = {**container_root.ENVIRONMENT, "HOME": "/root", "LC_ALL": "C.UTF-8"}
        words = " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items())
        ssh = base / "ssh"
        ssh.write_text(SSH.format(base=base, environment=words))
        ssh.chmod(0o755)

    def inventory(self, nodes: tuple[str, ...] = NODES) -> Path:
        """Both nodes, or one."""
        for node in NODES:
            (self.base / node).unlink(missing_ok=True)
            if self.pair.is_on(node):
                (self.base / node).write_text(str(self.pair.nodes[node].leader))
        settings = {"ansible_ssh_executable": str(self.base / "ssh"), "ansible_python_interpreter": "/usr/bin/python3"}
        file = self.base / "inventory.json"
        file.write_text(json.dumps({"kisscluster": {"hosts": dict.fromkeys(nodes, {}), "vars": settings}}))
        return file

    def play(self, playbook: str, *options: str, nodes: tuple[str, ...] = NODES, program: str = "ansible-playbook",
             **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook of the collection; the answer of its recap is at the end of stdout."""
        command = [program, "-i", str(self.inventory(nodes)), f"kisscluster.pair.{playbook}", *options]
        for key, value in variables.items():
            command += ["-e", f"{key}={value}"]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self.base / "collections"),
                       "ANSIBLE_CONFIG": str(self.base / "ansible.cfg"), "ANSIBLE_HOME": str(self.base / "home"),
                       "ANSIBLE_NOCOLOR": "1", "PYTHONPATH": ""}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def changes(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many tasks changed something on each node, from the recap."""
    recap = done.stdout.split("PLAY RECAP")[-1].splitlines()[1:]
    return {line.split()[0]: int(line.split("changed=")[1].split()[0]) for line in recap if "changed=" in line}
