"""The playbook kisscluster.pair.upgrade: both nodes boot anew, one after the other, and no guest notices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.container.conftest import make_healthy
from tests.container.test_ansible import PACKAGES
from tests.lab import container_root, package, setup
from tests.lab.container import ContainerPair
from tests.lab.guests import mark, marked
from tests.lab.pair import NODES, VMS
from tests.lab.site import DEBIAN_12, DEBIAN_13, Site, changed, recap

NEWER = "99.0"
LATE, WELL, COUNTS = 500, 30, 10  # seconds
QUICK: dict[str, object] = {"upgrade_return_seconds": 120, "upgrade_boot_seconds": 60}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pair = ContainerPair(package.deb(), PACKAGES)
    try:
        make_healthy(pair)
        site = Site(pair, tmp_path_factory.mktemp("upgrade"), {})
        for node in NODES:  # the laboratory's stand-ins, for what comes by ssh
            lines = "".join(f"{key}={value}\n" for key, value in container_root.ENVIRONMENT.items())
            pair.write(node, "/etc/environment", lines)
            site.offer(node, "1")
            pair.run(node, "dpkg -i /srv/debs/kc-lab.deb", timeout=60)
        yield site
    finally:
        pair.close()


def upgrade(site: Site, *options: str, expect: int = 0, program: str = DEBIAN_12, **variables: object) -> str:
    variables = {"upgrade_deb": "", **QUICK, **variables}
    return site.play(*options, playbook="upgrade", variables=variables, expect=expect, program=program, timeout=LATE)


def version(site: Site, node: str, name: str) -> str:
    return site.pair.run(node, f"dpkg-query -W -f '${{Version}}' {name}").stdout


def boots(site: Site) -> list[int]:
    return [site.pair.boots(node) for node in NODES]


def test_dry_run_changes_nothing_and_tells_all(site: Site) -> None:
    before, start = boots(site), time.monotonic()
    for node in NODES:
        site.offer(node, "2")
        site.pair.run(node, "apt-get -q update", timeout=60)
    said = upgrade(site, "--check", "--diff")
    for told in ("Would move the VMs of node1 to node2", "Would upgrade: kc-lab", "Would reboot"):
        assert told in said
    assert boots(site) == before and all(version(site, node, "kc-lab") == "1" for node in NODES)
    for vm, settings in VMS.items():
        assert {dot.node for dot in site.pair.dots(vm).after(start)} == {settings.home}


def test_both_nodes_one_after_the_other_and_no_guest_notices(site: Site) -> None:
    before = boots(site)
    for vm, settings in VMS.items():
        mark(site.pair, settings.home, vm)
    said = upgrade(site, upgrade_deb=str(package.newer(site.top, NEWER)))
    assert min(changed(said)) > 5
    assert boots(site) == [count + 1 for count in before]
    for node in NODES:
        assert version(site, node, "kc-lab") == "2" and version(site, node, "kisscluster") == NEWER
        assert site.pair.run(node, "kc-status -q && ! kc-standby status", check=False).returncode == 0
    for vm in VMS:  # node2 was emptied last, and failback_after is not over
        assert marked(site.pair, "node1", vm), f"{vm} has booted"
    site.counts("web2", "node1", COUNTS)


def test_a_guest_that_cannot_move_ends_it_with_all_as_it_was(site: Site) -> None:
    """Both run on node1: the first moves, the second cannot, and the first comes back."""
    pair, before = site.pair, boots(site)
    rule = f"tcp dport {16000 + VMS['web2'].minor} reject with tcp reset"
    pair.run("node2", f"nft 'add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; "
                      f"add rule inet lab in {rule}'")
    said = upgrade(site, expect=2)
    pair.run("node2", "nft delete table inet lab")
    assert "node1 cannot be emptied" in said and "kc-migrate: web2: failed: " in said
    assert recap(said)["node2"]["changed"] == 0 and boots(site) == before
    for vm in VMS:
        site.counts(vm, "node1", COUNTS)
        assert marked(pair, "node1", vm), f"{vm} has booted"
    pair.run("node1", "kc-migrate web2", timeout=60)
    site.is_well(WELL)


def test_with_fence_commands_nobody_is_fenced(site: Site) -> None:
    """A node that boots is silent for minutes: nothing waits for a proof, so the other one does not switch it off."""
    pair, before = site.pair, boots(site)
    fenced = setup.kisscluster_conf(dict.fromkeys(NODES, "touch /root/fenced; false"), **setup.SETTINGS)
    for node in NODES:
        pair.write(node, setup.CONFIG, fenced)
    site.is_well(WELL)
    assert isinstance(pair, ContainerPair)
    pair.nodes["node2"].firmware = 10.0
    try:
        upgrade(site, "--limit", "node2")
    finally:
        pair.nodes["node2"].firmware = 0.0
    assert boots(site) == [before[0], before[1] + 1]
    silent = "journalctl -b -t kc-quorum -o cat | grep -q 'the peer seems dead'"
    pair.run("node1", f"{silent} && ! test -e /root/fenced")
    for node in NODES:
        pair.write(node, setup.CONFIG, setup.kisscluster_conf(**setup.SETTINGS))
    site.is_well(WELL)


@pytest.mark.parametrize(("said", "undo"), [("kc-standby", "kc-standby off"), ("kc-maintenance", "kc-maintenance off")])
def test_a_person_s_word_is_respected(site: Site, said: str, undo: str) -> None:
    """Or that of a run that did not end: what undoes it is told."""
    site.pair.run("node2", f"{said} on --wait")
    before = boots(site)
    told = upgrade(site, expect=2)
    assert f'"    {undo}"' in told and "kc-status says on node2" in told
    assert max(row["changed"] for row in recap(told).values()) == 0 and boots(site) == before
    site.pair.run("node2", undo)
    site.is_well(WELL)


def test_only_what_needs_it(site: Site) -> None:
    """Both are as new as can be; one wants a reboot."""
    before = boots(site)
    assert changed(upgrade(site, upgrade_reboot="needed")) == [0, 0]
    site.pair.run("node2", "touch /run/reboot-required")
    assert changed(upgrade(site, upgrade_reboot="needed", program=DEBIAN_13))[0] == 0
    assert boots(site) == [before[0], before[1] + 1]


def test_a_node_that_does_not_come_back_ends_it(site: Site) -> None:
    """It stays in standby, the other is not touched; once mended, the next run goes on."""
    pair, before = site.pair, boots(site)
    for node in NODES:
        site.offer(node, "3")
    old = version(site, "node2", "kc-lab")
    pair.run("node1", "systemctl disable kisscluster.target")
    said = upgrade(site, upgrade_return_seconds=15, expect=2, program=DEBIAN_13)
    assert "node1 is not as it should be: nothing more is done" in said
    assert boots(site) == [before[0] + 1, before[1]] and version(site, "node2", "kc-lab") == old
    assert pair.run("node1", "kc-standby status", check=False).returncode == 0
    for vm in VMS:
        site.counts(vm, "node2", COUNTS)
    pair.run("node1", "systemctl enable --now kisscluster.target && kc-standby off")
    site.is_well(WELL)
    assert changed(upgrade(site, "--limit", "node2", program=DEBIAN_13), ("node2",))[0] > 5
    assert version(site, "node2", "kc-lab") == "3"


def test_not_from_one_of_the_nodes(site: Site) -> None:
    inventory = site.inventory("", node1="local", node2="local")
    site.pair.write("node1", "/root/pair.json", json.dumps(inventory))
    play = "ansible-playbook -i /root/pair.json kisscluster.pair.upgrade"
    done = site.pair.run("node1", play, timeout=100, check=False)
    told = " ".join(done.stdout.split())
    assert done.returncode == 2 and "Upgrade the other node from here, with --limit node2" in told
