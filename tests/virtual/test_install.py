"""From two machines with ssh and Python to a pair with three VMs, by Ansible alone, on real LVM and real DRBD."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab import package
from tests.lab.guests import mark, marked
from tests.lab.pair import NODES
from tests.lab.site import DEBIAN_13, Site, changed, kept_process
from tests.lab.virtual_bare import BarePair

SETTINGS = {"kisscluster_network": "networkd", "kisscluster_disks": ["/dev/vdb"]}
HOSTS = {"kisscluster_production_interface": "eth0", "kisscluster_storage_interface": "eth1"}
DEFAULTS = "bridge: br0\nmemory: 32\ncpus: 1\ndisk: ide\naccel: tcg\nstop_timeout: 1\nimport: /root/guest.qcow2\n"
HOMES = {"web1": "node1", "web2": "node2", "web3": "node1"}
NEWER = "99.0"
MINUTES = 60.0
PATIENCE = 90.0  # seconds for what a node does by itself
LATE = 20 * MINUTES  # a playbook; by tcg a task takes seconds


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    top = tmp_path_factory.mktemp("install")
    pair = BarePair()
    try:
        yield Site(pair, top, SETTINGS, HOSTS, kept_process())
    finally:
        pair.close()


@pytest.fixture
def definitions(site: Site) -> Path:
    """What the playbook vms makes of: three VMs whose first disk is filled from an image."""
    folder = site.top / "definitions"
    if not folder.exists():
        (folder / "vm").mkdir(parents=True)
        (folder / "defaults.yml").write_text(DEFAULTS)
        for vm in HOMES:
            define(folder, vm)
        for node in NODES:
            site.give_image(node, "/root/guest.qcow2")
    return folder


def define(folder: Path, vm: str, sizes: str = "4M", more: str = "") -> None:
    (folder / f"vm/{vm}.yml").write_text(f"node: {HOMES[vm]}\ndisks: [{sizes}]\n{more}")


def vms(site: Site, folder: Path, *nodes: str) -> str:
    return play(site, playbook="vms", nodes=nodes or NODES, variables={"vms_definitions": str(folder)})


def play(site: Site, *options: str, playbook: str = "install", nodes: tuple[str, ...] = NODES,
         variables: Mapping[str, object] | None = None) -> str:
    return site.play(*options, playbook=playbook, nodes=nodes, variables=variables, program=DEBIAN_13, timeout=LATE)


def stop(site: Site, vm: str) -> None:
    site.pair.run("node2", f"kc-vm-stop {vm}", timeout=60)
    role = f"drbdadm role {vm}"
    site.pair.wait(lambda: set(site.pair.run("node2", role).stdout.split()) == {"Secondary/Secondary"}, 60, "stopped")


def size_of(site: Site, vm: str, disk: str) -> int:
    """What the guest on node1 sees, in bytes."""
    nodes = json.loads(site.pair.run("node1", f"kc-monitor {vm} qmp query-named-block-nodes").stdout)
    return next(int(node["image"]["virtual-size"]) for node in nodes if node.get("node-name") == disk)


def test_two_machines_become_a_pair(site: Site) -> None:
    said = play(site, "--diff")
    for node in NODES:
        assert site.pair.read(node, "/etc/kisscluster/secret").strip() not in said
        site.pair.run(node, "vgs vg0 && lsmod | grep -q ^drbd && ip -br address show br0 | grep -q 192.0.2.1")
    site.is_well(2 * PATIENCE)


def test_again_nothing_changes(site: Site) -> None:
    assert changed(play(site)) == [0, 0]


def test_three_vms_are_made_and_boot(site: Site, definitions: Path) -> None:
    vms(site, definitions)
    for vm, node in HOMES.items():
        site.counts(vm, node, PATIENCE)
    assert changed(vms(site, definitions)) == [0, 0]
    site.is_well(2 * PATIENCE)


def test_a_disk_grows_below_a_running_guest(site: Site, definitions: Path) -> None:
    since = len(site.pair.dots("web1"))
    define(definitions, "web1", "9M")
    vms(site, definitions)
    assert size_of(site, "web1", "disk0") >= 9 << 20
    site.counts("web1", "node1", PATIENCE)
    assert [dot.node for dot in site.pair.dots("web1").all()[since:]].count("node2") == 0
    assert changed(vms(site, definitions)) == [0, 0]


def test_an_upgrade_reboots_both_nodes_and_no_guest(site: Site) -> None:
    """The guests cross it with the mark in their memory."""
    pair, before = site.pair, [site.pair.boots(node) for node in NODES]
    site.is_well(2 * PATIENCE)
    for node in NODES:
        site.offer(node, "1")
        pair.run(node, "dpkg -i /srv/debs/kc-lab.deb", timeout=60)
        site.offer(node, "2")
    for vm, node in HOMES.items():
        mark(pair, node, vm)
    deb = str(package.newer(site.top, NEWER))
    said = play(site, playbook="upgrade", variables={"upgrade_deb": deb})
    assert min(changed(said)) > 5
    assert [pair.boots(node) for node in NODES] == [count + 1 for count in before]
    for node in NODES:
        versions = pair.run(node, "dpkg-query -W -f '${Package} ${Version}\n' kc-lab kisscluster").stdout
        assert versions.split() == ["kc-lab", "2", "kisscluster", NEWER]
    for vm in HOMES:  # node2 was emptied last, and failback_after is not over
        site.counts(vm, "node1", PATIENCE)
        assert marked(pair, "node1", vm), f"{vm} has booted"
    site.is_well(2 * PATIENCE)


def test_a_power_loss_and_what_was_defined_meanwhile(site: Site, definitions: Path) -> None:
    site.pair.power_off("node1")
    for vm in HOMES:
        site.counts(vm, "node2", PATIENCE)
    define(definitions, "web3", more="memory: 33\n")
    assert "memory = 33" not in site.pair.read("node2", "/etc/kisscluster/vm/web3.conf")
    vms(site, definitions, "node2")
    site.pair.power_on("node1")
    site.pair.run("node1", "systemctl is-system-running --wait", PATIENCE, check=False)
    vms(site, definitions)
    for node in NODES:
        assert "memory = 33" in site.pair.read(node, "/etc/kisscluster/vm/web3.conf")
    site.is_well(2 * PATIENCE)  # not before: the nodes' files differed


def test_a_disk_is_added(site: Site, definitions: Path) -> None:
    """Both new copies are good at once, and the guest's first disk is what it was."""
    stop(site, "web3")
    define(definitions, "web3", "4M, 5M", "memory: 33\n")
    vms(site, definitions)
    for node in NODES:
        assert site.pair.run(node, "drbdadm dstate web3").stdout.split() == ["UpToDate/UpToDate"] * 2
    assert changed(vms(site, definitions)) == [0, 0]
    site.pair.run("node1", "kc-vm-start web3", timeout=PATIENCE)
    site.counts("web3", "node1", PATIENCE)
    assert size_of(site, "web3", "disk1") >= 5 << 20


def test_a_vm_is_removed(site: Site, definitions: Path) -> None:
    (definitions / "vm/web3.yml").write_text("state: absent\nremove_disks: true\n")
    stop(site, "web3")
    vms(site, definitions)
    for node in NODES:
        site.pair.run(node, "! test -e /etc/kisscluster/vm/web3.conf && ! ls /dev/vg0/web3*")
    site.is_well(2 * PATIENCE)
