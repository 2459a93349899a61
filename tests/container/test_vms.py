"""The playbook kisscluster.pair.vms on two nodes: every kind of change, and each a second time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.lab import container_root, setup
from tests.lab.ansible import Ansible, changes
from tests.lab.container import ContainerPair
from tests.lab.pair import NODES

DEFAULTS = f"""\
pool: {container_root.DISKS}
bridge: br0
memory: 32
cpus: 1
disk: ide
accel: tcg
stop_timeout: 1
"""
# the containers have no qemu-img; the guest of one sector is raw
QEMU_IMG = '#!/bin/sh\ntest "$1 $2" = "convert -n" && exec dd if="$5" of="$6" bs=4096 conv=notrunc status=none\n'
IMAGE = "/root/guest.raw"
Play = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("definitions")
    (folder / "vm").mkdir()
    (folder / "defaults.yml").write_text(DEFAULTS)
    return folder


@pytest.fixture
def play(cluster: ContainerPair, definitions: Path, tmp_path: Path) -> Iterator[Play]:
    ansible = Ansible(cluster, tmp_path)
    write(definitions, "web1", "node: node1\ndisks: [1M]\n")

    def run(*options: str, **more: object) -> CompletedProcess[str]:
        return ansible.play("vms", *options, vms_definitions=str(definitions), **more)  # type: ignore[arg-type]

    yield run


def write(definitions: Path, vm: str, text: str) -> None:
    (definitions / f"vm/{vm}.yml").write_text(text)


def well(done: CompletedProcess[str], **expected: int) -> None:
    """It ended well; the number of changes of each node, where that matters."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert not expected or changes(done) == expected, done.stdout


def counter(pair: ContainerPair, node: str, vm: str) -> int:
    disk = pair.nodes[node].root / f"{container_root.DISKS}/{vm}".lstrip("/")
    with disk.open("rb") as stream:
        return setup.count_on(stream.read(1024))


def size_seen(pair: ContainerPair, node: str, vm: str) -> int:
    """What QEMU shows its guest."""
    nodes = json.loads(pair.run(node, f"kc-monitor {vm} qmp query-named-block-nodes").stdout)
    return next(int(node["image"]["virtual-size"]) for node in nodes if node.get("node-name") == "disk0")


def test_vms_made_by_hand_are_taken_as_they_are(cluster: ContainerPair, play: Play, definitions: Path) -> None:
    start = time.monotonic()
    write(definitions, "web5", "node: node2\ndisks: [1M]\n")
    well(play("--check", "--diff"))
    assert not (definitions / "numbers.yml").exists()
    cluster.run("node1", f"test ! -e /etc/drbd.d/web5.res && test ! -e {container_root.DISKS}/web5")
    (definitions / "vm/web5.yml").unlink()
    done = play(program="/usr/bin/ansible-playbook")  # Debian 12's; the others are by that of Debian 13
    well(done)
    assert "web2 has no definition, and is left as it is" in done.stdout
    assert "minor: 10" in (definitions / "numbers.yml").read_text()
    well(play(program="/usr/bin/ansible-playbook"), node1=0, node2=0)
    assert {dot.node for dot in cluster.dots("web1").after(start)} == {"node1"}


def test_a_new_vm_is_filled_from_an_image_and_boots(cluster: ContainerPair, play: Play, definitions: Path) -> None:
    for node in NODES:
        cluster.write(node, "/usr/local/bin/qemu-img", QEMU_IMG, mode=0o755)
    write(definitions, "web3", f"node: node1\ndisks: [2M]\nimport: {IMAGE}\n")
    refused = play()
    assert refused.returncode == 2 and "no such file on node1" in refused.stdout
    cluster.nodes["node1"].root.joinpath(IMAGE.lstrip("/")).write_bytes(setup.guest_disk(1))
    well(play())
    for node in NODES:
        cluster.wait(lambda node=node: counter(cluster, node, "web3") > 5, 20, f"web3 counts on {node}")  # type: ignore[misc]
    grow_it(cluster, play, definitions)
    remove_it(cluster, play, definitions)


def grow_it(cluster: ContainerPair, play: Play, definitions: Path) -> None:
    """Online, while the guest writes; more memory waits for its next start, and that is said."""
    write(definitions, "web3", f"node: node1\ndisks: [5M]\nmemory: 33\nimport: {IMAGE}\n")
    done = play()
    well(done)
    assert "web3 runs: the change applies when it is started the next time" in done.stdout
    assert size_seen(cluster, "node1", "web3") >= 5 << 20
    before = counter(cluster, "node2", "web3")
    cluster.wait(lambda: counter(cluster, "node2", "web3") > before, 5, "web3 goes on, mirrored")
    write(definitions, "web3", "node: node1\ndisks: [1M]\n")
    refused = play()
    assert refused.returncode == 2 and "never made smaller" in refused.stdout


def remove_it(cluster: ContainerPair, play: Play, definitions: Path) -> None:
    """Only by an explicit word, never while it runs, and its disks are kept unless that is asked for."""
    write(definitions, "web3", "state: absent\n")
    refused = play()
    assert refused.returncode == 2 and "kc-vm-stop web3" in refused.stdout
    cluster.run("node2", "kc-vm-stop web3")
    cluster.wait(lambda: "Secondary/" in cluster.run("node1", "drbdadm role web3").stdout, 10, "web3 is stopped")
    well(play())
    for node in NODES:
        cluster.run(node, f"test ! -e /etc/kisscluster/vm/web3.conf && test -e {container_root.DISKS}/web3")
    write(definitions, "web3", "state: absent\nremove_disks: true\n")
    well(play())
    for node in NODES:
        cluster.run(node, f"test ! -e {container_root.DISKS}/web3")


def test_while_the_other_node_is_off(cluster: ContainerPair, play: Play, definitions: Path) -> None:
    """What can be done here is done; a new disk waits."""
    cluster.power_off("node2")
    write(definitions, "web4", "node: node1\ndisks: [1M]\n")
    write(definitions, "web1", "node: node1\ndisks: [1M]\nmemory: 33\n")
    well(play(nodes=("node1",)))
    cluster.run("node1", "grep -q 33 /etc/kisscluster/vm/web1.conf && test ! -e /etc/kisscluster/vm/web4.conf")
    cluster.power_on("node2")
    well(play())
    cluster.run("node2", "grep -q 33 /etc/kisscluster/vm/web1.conf && test -e /etc/kisscluster/vm/web4.conf")
    assert "UpToDate/UpToDate" in cluster.run("node2", "drbdadm dstate web4").stdout
