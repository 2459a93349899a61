"""A third machine with Ansible, which sits at the switch of two nodes and reaches them by ssh."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.lab import build, package, setup
from tests.lab.pair import NODES, PRODUCTION, STORAGE, SWITCH, Pair

DEBIAN_12, DEBIAN_13 = "/usr/bin/ansible-playbook", "ansible-playbook"  # of the host, and what make deps installs
COLLECTION = "ansible_collections/kisscluster/pair"
# a package source of one package without content
OFFER = """\
rm -rf /etc/apt/sources.list.d /srv/debs && mkdir -p /srv/debs /tmp/kc-lab/DEBIAN && cd /srv/debs &&
lines() {{ printf '%s\\n' "$@"; }} &&
lines 'Package: kc-lab' 'Version: {version}' 'Architecture: all' 'Maintainer: lab' 'Description: lab' > Packages &&
cp Packages /tmp/kc-lab/DEBIAN/control && dpkg-deb -b /tmp/kc-lab kc-lab.deb && set -- $(sha256sum kc-lab.deb) &&
lines 'Filename: ./kc-lab.deb' "Size: $(stat -c %s kc-lab.deb)" "SHA256: $1" >> Packages
"""
SETTINGS: dict[str, object] = {
    "kisscluster_cluster": "lab", "kisscluster_ping": SWITCH, "kisscluster_accel": "tcg", "kisscluster_settle": 3}


def kept_process() -> dict[str, str]:
    """One Python process a node for all tasks of a run, by mitogen: a new one for each takes seconds under tcg."""
    program = shutil.which(DEBIAN_13)
    plugins = Path(program).parents[1].glob("lib/*/site-packages/ansible_mitogen/plugins/strategy") if program else []
    return {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(next(iter(plugins))),
            "ANSIBLE_TIMEOUT": "120"}


class Site:
    """The collection of this checkout, a key that both nodes let in, and an inventory of the two.

    environment: what ansible-playbook is told beside that.
    """

    def __init__(self, pair: Pair, top: Path, settings: Mapping[str, object], hosts: Mapping[str, object] = {},
                 environment: Mapping[str, str] = {}) -> None:
        self.pair, self.top, self.settings, self.hosts = pair, top, settings, hosts
        self.environment = environment
        self.key = top / "key"
        (top / "ansible.cfg").write_text("")
        shutil.copytree(build.CHECKOUT / "ansible", top / COLLECTION)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        for node in NODES:
            pair.run(node, "install -d -m 0700 /root/.ssh")
            pair.write(node, "/root/.ssh/authorized_keys", self.key.with_suffix(".pub").read_text(), 0o600)
            # the package lists are as new as they must be
            pair.run(node, "install -d /var/lib/apt/periodic && touch /var/lib/apt/periodic/update-success-stamp")

    def inventory(self, deb: str, nodes: tuple[str, ...] = NODES, **connections: str) -> dict[str, object]:
        """These nodes; connections: how Ansible reaches a node, if not by ssh."""
        hosts = {node: {"ansible_host": PRODUCTION[node], "ansible_connection": connections.get(node, "ssh"),
                        "ansible_python_interpreter": "/usr/bin/python3", "ansible_user": "root", **self.hosts,
                        "kisscluster_production": PRODUCTION[node], "kisscluster_storage": STORAGE[node]}
                 for node in nodes}
        settings = {**SETTINGS, "kisscluster_deb": deb, **self.settings}
        return {"kisscluster": {"hosts": hosts, "vars": settings}}

    def give_image(self, node: str, path: str) -> None:
        """A guest's disk as another system would hand it over."""
        raw, qcow2 = self.top / "guest.raw", self.top / "guest.qcow2"
        raw.write_bytes(setup.guest_disk(1))
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", "-c", raw, qcow2], check=True)
        text = subprocess.run(["base64", qcow2], check=True, capture_output=True, text=True).stdout
        self.pair.write(node, f"{path}.base64", text)
        self.pair.run(node, f"base64 -d {path}.base64 > {path}")

    def is_well(self, seconds: float) -> None:
        """Wait until kc-status of both nodes is content."""
        def well(node: str) -> bool:
            return self.pair.run(node, "kc-status -q", timeout=seconds, check=False).returncode == 0

        self.pair.wait(lambda: all(map(well, NODES)), seconds, "kc-status of both nodes says that all is well")

    def counts(self, vm: str, node: str, seconds: float) -> None:
        """Wait until a guest prints something there from now on."""
        moment = time.monotonic()
        self.pair.wait(lambda: self.pair.dots(vm).after(moment, node), seconds, f"{vm} counts on {node}")

    def offer(self, node: str, version: str) -> None:
        """The node's only package source has kc-lab in that version."""
        self.pair.run(node, OFFER.format(version=version))
        self.pair.write(node, "/etc/apt/sources.list", "deb [trusted=yes] file:/srv/debs ./\n")

    def play(self, *options: str, playbook: str = "install", nodes: tuple[str, ...] = NODES,
             variables: Mapping[str, object] | None = None, expect: int = 0, timeout: float = 300,
             program: str = DEBIAN_12) -> str:
        """What ansible-playbook prints; every process of it ends with it."""
        inventory = self.top / "pair.json"
        inventory.write_text(json.dumps(self.inventory(str(package.deb()), nodes)))
        extra = ["-e", json.dumps(variables)] if variables else []
        command = self.pair.net.enter(
            "unshare", "--pid", "--fork", "--kill-child", program,
            "-i", str(inventory), f"kisscluster.pair.{playbook}", *options, *extra)
        environment = {
            **os.environ, **self.environment, "ANSIBLE_COLLECTIONS_PATH": str(self.top),
            "ANSIBLE_HOME": str(self.top / "home"),
            "ANSIBLE_CONFIG": str(self.top / "ansible.cfg"), "ANSIBLE_PRIVATE_KEY_FILE": str(self.key),
            "ANSIBLE_HOST_KEY_CHECKING": "0", "ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1", "PYTHONPATH": "",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.top), "HOME": str(self.top)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
        print(done.stdout, done.stderr, file=sys.stderr)
        assert done.returncode == expect, done.stdout[-3000:] + done.stderr[-2000:]
        return done.stdout


def recap(said: str) -> dict[str, dict[str, int]]:
    """The numbers at the end of a run."""
    rows = re.findall(r"^(node\d) +: (.*)$", said, re.M)
    return {node: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", row)} for node, row in rows}


def changed(said: str, nodes: tuple[str, ...] = NODES) -> list[int]:
    """How much was changed on each node; nothing failed."""
    found = recap(said)
    assert set(found) == set(nodes) and not any(row["failed"] + row["unreachable"] for row in found.values())
    return [found[node]["changed"] for node in nodes]
