"""The package in a running pair: upgrading, stopping and removing it stops no guest."""

from __future__ import annotations

import base64
import time

from tests.container.test_pair import CALM, fact, steady
from tests.lab import package
from tests.lab.container import ContainerPair
from tests.lab.pair import NODES, VMS

RUNNING = "systemctl show -P MainPID kc-heartbeat.service"


def unpack(pair: ContainerPair, node: str) -> None:
    """The package's file, as an administrator would have copied it."""
    pair.write(node, "/tmp/new.b64", base64.b64encode(package.deb().read_bytes()).decode())
    pair.run(node, "base64 -d /tmp/new.b64 > /tmp/new.deb")


def test_upgrade_restarts_the_heartbeat_and_no_guest(cluster: ContainerPair) -> None:
    start = time.monotonic()
    for node in NODES:
        unpack(cluster, node)
        before = cluster.run(node, RUNNING).stdout
        cluster.run(node, "dpkg -i /tmp/new.deb")
        assert cluster.run(node, RUNNING).stdout not in (before, "0\n")
    cluster.wait(lambda: fact(cluster, "node1", "decision").startswith("home "), 15, "node1 decides home again")
    for vm in VMS:
        steady(cluster, vm, start, CALM)


def test_stopped_target_leaves_the_guests(cluster: ContainerPair) -> None:
    start = time.monotonic()
    cluster.run("node1", "systemctl stop kisscluster.target")
    assert cluster.run("node1", "systemctl is-active kc-heartbeat.service", check=False).stdout == "inactive\n"
    cluster.wait(lambda: "hold" in cluster.run("node1", "kc-failover; true").stdout, 10, "node1 holds")
    cluster.wait(lambda: fact(cluster, "node2", "links").startswith("storage=down"), 10, "node2 notices")
    cluster.run("node1", "systemctl start kisscluster.target")
    cluster.wait(lambda: fact(cluster, "node1", "decision").startswith("home "), 15, "node1 decides home again")
    for vm in VMS:
        steady(cluster, vm, start, CALM)


def test_removal_is_refused_while_a_guest_runs(cluster: ContainerPair) -> None:
    start = time.monotonic()
    ended = cluster.run("node1", "dpkg -r kisscluster 2>&1", check=False)
    assert ended.returncode and "primary on this node: web1" in ended.stdout
    assert cluster.run("node1", "kc-status -q; systemctl is-active kc-heartbeat.service").stdout == "active\n"
    steady(cluster, "web1", start, CALM)
