"""The installation by Ansible: two machines without KISScluster become a pair; what cannot work is refused first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import container_root
from tests.lab.container import ContainerPair
from tests.lab.pair import NODES, PRODUCTION, STORAGE, Pair
from tests.lab.site import Site, changed, recap

# what the role installs beside the packages of every node; a laboratory's node has no way to any package source
PACKAGES = "ansible-core bash-completion git ifupdown lvm2 openssh-client openssh-server python3-apt qemu-utils".split()
# what a container cannot: it has the kernel of its host, and its networks are made for it
ELSEWHERE = {f"kisscluster_manage_{part}": False for part in ("kernel", "lvm", "time")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pair = ContainerPair(None, PACKAGES)
    yield Site(pair, tmp_path_factory.mktemp("ansible"), {"kisscluster_network": "leave", **ELSEWHERE})
    pair.close()


def test_dry_run_on_bare_machines_changes_nothing(site: Site) -> None:
    listing = "find /etc /root /usr -type f ! -path '*/.ansible/*' -exec ls -ld {} + | cksum"
    before = [site.pair.run(node, listing).stdout for node in NODES]
    assert min(changed(site.play("--check", "--diff"))) > 5
    assert [site.pair.run(node, listing).stdout for node in NODES] == before


def test_from_bare_machines_to_a_running_pair(site: Site) -> None:
    said = site.play("--diff")
    pair = site.pair
    for node in NODES:
        assert pair.run(node, "systemctl is-enabled kisscluster.target").stdout == "enabled\n"
        assert pair.run(node, "systemctl is-enabled drbd.service", check=False).stdout != "enabled\n"
    secrets = {pair.read(node, "/etc/kisscluster/secret") for node in NODES}
    assert len(secrets) == 1 and secrets.pop().strip() not in said
    site.is_well(20)
    for node, peer in (NODES, NODES[::-1]):
        assert pair.run(node, f"ssh -o BatchMode=yes {peer} hostname").stdout == f"{peer}\n"


def test_again_from_a_node_changes_nothing(site: Site) -> None:
    """With the ansible-core of the node's Debian, and the collection where the package put it."""
    site.pair.write("node1", "/root/pair.json", json.dumps(site.inventory("/var/cache/kisscluster.deb", node1="local")))
    heart = site.pair.run("node1", "systemctl show -P MainPID kc-heartbeat.service").stdout
    said = site.pair.run("node1", "ansible-playbook -i /root/pair.json kisscluster.pair.install", timeout=200).stdout
    assert changed(said) == [0, 0], said
    assert site.pair.run("node1", "systemctl show -P MainPID kc-heartbeat.service").stdout == heart


DEFINITIONS = "/etc/kisscluster/definitions"
BOOKS = "/var/lib/kisscluster/definitions.git"
DEFAULTS = f"pool: {container_root.DISKS}\nbridge: br0\nmemory: 32\ncpus: 1\ndisk: ide\naccel: tcg\nstop_timeout: 1\n"


def configure(pair: Pair, node: str, *options: str, expect: int = 0) -> str:
    done = pair.run(node, f"kc-configure {' '.join(options)}", timeout=200, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def define(pair: Pair, node: str, memory: int, name: str = "web3") -> None:
    text = f"node: node1\ndisks: [2M]\nmemory: {memory}\nimport: /root/guest.qcow2\niso: /root/cd.iso\n"
    pair.write(node, f"{DEFINITIONS}/vm/{name}.yml", text)


def memories(pair: Pair, name: str = "web3") -> list[str]:
    """What both nodes would start it with."""
    look = f"sed -n 's/^memory = //p' /etc/kisscluster/vm/{name}.conf"
    return [pair.run(node, look).stdout.strip() for node in NODES]


def test_definitions_reach_both_nodes_by_kc_configure(site: Site) -> None:
    pair = site.pair
    for node in NODES:  # what kc-configure's Ansible reaches by ssh needs the laboratory's stand-ins, too
        lines = "".join(f"{key}={value}\n" for key, value in container_root.ENVIRONMENT.items())
        pair.write(node, "/etc/environment", lines)
    site.give_image("node1", "/root/guest.qcow2")
    pair.run("node1", "truncate -s 1M /root/cd.iso")
    pair.write("node1", f"{DEFINITIONS}/defaults.yml", DEFAULTS)
    define(pair, "node1", 32)
    configure(pair, "node1", "--check")
    for node in NODES:
        pair.run(node, f"! test -e /etc/kisscluster/vm/web3.conf && ! test -e {BOOKS}")
    first = configure(pair, "node1", "--message", "'a guest from elsewhere'")
    pair.wait(lambda: counter(pair, "node2") > 3, 20, "web3 counts, mirrored")
    assert "does not run yet" not in first and "fdset" in pair.run("node1", "kc-monitor web3 qmp query-block").stdout
    assert memories(pair) == ["32", "32"]
    log = pair.run("node2", f"git -C {DEFINITIONS} log --format=%s").stdout
    assert log.splitlines()[-1] == "a guest from elsewhere"
    assert configure(pair, "node1").splitlines()[-1] == first.splitlines()[-1]
    define(pair, "node2", 33)
    assert "applies when it is started the next time" in configure(pair, "node2")
    assert memories(pair) == ["33", "33"]
    pair.run("node1", f"cd {DEFINITIONS} && echo '# why' >> defaults.yml && git commit -qam why && git push -q")
    assert [pair.run(node, f"git -C {BOOKS} log -1 --format=%s").stdout for node in NODES] == ["why\n"] * 2


def test_definitions_pushed_while_a_node_was_off_reach_it(site: Site) -> None:
    pair = site.pair
    pair.power_off("node2")
    pair.run("node1", f"git -C {DEFINITIONS} pull -q {BOOKS} main")
    define(pair, "node1", 34)
    pair.wait(lambda: "alive" not in pair.run("node1", "kc-status", check=False).stdout.splitlines()[0], 10, "dead")
    assert "node2 is not reached" in configure(pair, "node1")
    pair.power_on("node2")
    back = f"grep -q storage=up /run/kisscluster/links && ssh -o BatchMode=yes {STORAGE['node2']} true"
    pair.wait(lambda: pair.run("node1", back, check=False).returncode == 0, 30, "node2 is back")
    configure(pair, "node1")
    assert memories(pair) == ["34", "34"]


def test_histories_that_diverged_are_refused_and_mended_as_told(site: Site) -> None:
    pair = site.pair
    define(pair, "node2", 35)
    alone = f"cd {DEFINITIONS} && git commit -qam there && git push -q {BOOKS} HEAD:main"
    pair.run("node2", alone)
    pair.write("node1", f"{DEFINITIONS}/vm/web4.yml", "state: absent\n")
    pair.run("node1", f"cd {DEFINITIONS} && git add -A && git commit -qm here")
    told = configure(pair, "node1", expect=1)
    assert "the definitions have diverged" in told
    mend = f"git -C {DEFINITIONS} merge --no-edit node2/main"
    assert f"{mend}, then kc-configure" in told
    pair.run("node1", mend)
    configure(pair, "node1")
    assert memories(pair) == ["35", "35"]
    remove(pair)


def remove(pair: Pair) -> None:
    pair.run("node1", "kc-vm-stop web3")
    pair.write("node1", f"{DEFINITIONS}/vm/web3.yml", "state: absent\nremove_disks: true\n")
    configure(pair, "node1")
    for node in NODES:
        pair.run(node, f"! test -e /etc/kisscluster/vm/web3.conf && ! test -e {container_root.DISKS}/web3")


def counter(pair: Pair, node: str) -> int:
    return int(pair.run(node, f"od -An -tu4 -j512 -N4 {container_root.DISKS}/web3").stdout)


def test_changed_setting_is_told_by_a_dry_run_and_taken_by_a_run(site: Site) -> None:
    said = site.play("--check", "--diff", variables={"kisscluster_settle": 4})
    assert "+settle   = 4" in said and "settle   = 3" in site.pair.read("node1", "/etc/kisscluster/kisscluster.conf")
    heart = site.pair.run("node1", "systemctl show -P MainPID kc-heartbeat.service").stdout
    site.play(variables={"kisscluster_settle": 4})
    assert site.pair.run("node1", "systemctl show -P MainPID kc-heartbeat.service").stdout != heart
    site.play(variables={"kisscluster_settle": 9999}, expect=2)
    assert "settle   = 4" in site.pair.read("node1", "/etc/kisscluster/kisscluster.conf")


# Where the addresses lie on a bare machine: on the interface itself, made by hand
BARE = """
ip link delete br0 2>/dev/null
systemctl disable --now systemd-networkd.socket systemd-networkd; systemctl unmask systemd-networkd
for link in prod stor; do ip address flush dev $link; ip link set $link up; done
ip address add {production}/24 dev prod; ip address add {storage}/24 dev stor
"""
NETWORKS: dict[str, object] = {"kisscluster_production_interface": "prod", "kisscluster_storage_interface": "stor"}
VLAN = "ip link add link stor name probe type vlan id 9 && ip link delete probe"  # not every kernel can


@pytest.mark.parametrize("manager", ["networkd", "ifupdown"])
def test_networks_move_to_bridge_and_vlan_under_the_connection(site: Site, manager: str) -> None:
    pair = site.pair
    tagged = [{"name": "br20", "vlan": 20}] if pair.run("node1", VLAN, check=False).returncode == 0 else []
    variables = {**NETWORKS, "kisscluster_network": manager, "kisscluster_bridges": tagged}
    for node in NODES:
        pair.run(node, BARE.format(production=PRODUCTION[node], storage=STORAGE[node]))
    if manager == "networkd":
        refuse_while_a_guest_runs(site, variables)
    site.play(variables=variables)
    for node, peer in (NODES, NODES[::-1]):
        assert PRODUCTION[node] in pair.run(node, "ip -br address show br0").stdout
        assert not tagged or "master br20" in pair.run(node, "ip link show prod.20").stdout
        assert pair.run(node, f"ping -q -c 1 -W 2 {STORAGE[peer]} && ping -q -c 1 -W 2 {PRODUCTION[peer]}")
    pair.cable("node1", "storage", False)
    pair.wait(lambda: "NO-CARRIER" in pair.run("node1", "ip link show stor").stdout, 5, "the cable is out")
    said = site.play(variables=variables)
    assert changed(said) == [0, 0], said
    assert STORAGE["node1"] in pair.run("node1", "ip address show stor").stdout
    pair.cable("node1", "storage", True)


def refuse_while_a_guest_runs(site: Site, variables: dict[str, object]) -> None:
    """It would lose its network; QEMU gives a guest's process another name."""
    site.pair.run("node1", "systemd-run --unit=guest bash -c 'exec -a qemu-system-x86_64 sleep infinity'")
    assert "and guests run here" in " ".join(site.play(variables=variables, expect=2).split())
    site.pair.run("node1", "systemctl stop guest && ! ip -br address show br0")


FILE = "/var/tmp/disk"
OTHERS = "10.0.0.{{ 7 + groups['kisscluster'].index(inventory_hostname) }}"
REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "nothing answers": ({"kisscluster_ping": "192.0.2.99"}, "does not answer a ping"),
    "other machine": ({"kisscluster_storage": OTHERS}, "Is node1 the machine you mean?"),
    "no virtualisation": ({"kisscluster_accel": "kvm"}, "no hardware virtualisation"),
    "full disk": ({"kisscluster_manage_lvm": True, "kisscluster_disks": [FILE]}, f"{FILE} has swap"),
    "no DRBD": ({"kisscluster_manage_kernel": True}, "DRBD 8.4 is needed"),
    "clocks": ({"kisscluster_clock_tolerance": -1}, "seconds apart"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_changed(site: Site, name: str) -> None:
    variables, why = REFUSED[name]
    if name == "no virtualisation" and re.search(r"\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text()):
        pytest.skip("this machine has it")
    for node in NODES:
        site.pair.run(node, f"truncate -s 1M {FILE} && mkswap {FILE}")
    refused(site.play(variables=variables, expect=2), why)


def test_one_node_alone_is_refused(site: Site) -> None:
    refused(site.play("--limit", "node1", expect=2), "exactly two hosts")


def refused(said: str, why: str) -> None:
    """It said so, and did nothing."""
    assert why in " ".join(said.split())
    assert max(row["changed"] for row in recap(said).values()) == 0
