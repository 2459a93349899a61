"""Fixtures of the container pair: `lab` is two bare nodes, `cluster` a healthy KISScluster on them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.lab import package, setup
from tests.lab.container import DISKS, ContainerPair
from tests.lab.pair import NODES, VMS, wait

RECOVERY = 6.0  # seconds; a new pair takes eight
HANDLER = ". /etc/fence-answer"
_pairs: list[ContainerPair] = []


@pytest.fixture(scope="module")
def containers() -> Iterator[ContainerPair]:
    """The pair of a module's tests; it leaves the processors to the next module, and to the virtual pair."""
    pair = ContainerPair(package.deb())
    _pairs.append(pair)
    yield pair
    _pairs.clear()
    pair.close()


@pytest.fixture
def lab(containers: ContainerPair) -> ContainerPair:
    """Two nodes as from the installation, their disks up; KISScluster is not started."""
    pair = containers
    if not idle(pair):
        pair.renew()
        setup.write_resources(pair, DISKS, handler=HANDLER)
        for node in NODES:
            pair.run(node, "drbdadm adjust all")
        pair.wait(lambda: connected(pair), 5, "the disks are connected")
    for node in NODES:
        pair.write(node, "/etc/fence-answer", "exit 1")
    return pair


@pytest.fixture
def cluster(containers: ContainerPair) -> ContainerPair:
    """A pair that is well, its guests at home; one that the test before left so is taken over."""
    if not recovered(containers):
        make_healthy(containers)
    return containers


def recovered(pair: ContainerPair) -> bool:
    """Is it well, or does it get well by itself in less time than a new one takes?"""
    end = time.monotonic() + RECOVERY
    while not healthy(pair):
        on = all(pair.nodes[node].process for node in NODES)
        if time.monotonic() > end or not (on and all(runs(pair, vm, VMS[vm].home) for vm in VMS) and connected(pair)):
            return False
        time.sleep(0.2)
    return True


def make_healthy(pair: ContainerPair) -> None:
    """From the installation to guests that run at home."""
    pair.renew()
    setup.write_config(pair, DISKS, **setup.SETTINGS)
    setup.start(pair)
    wait(lambda: healthy(pair), 60, "the pair is healthy", 0.2)


def idle(pair: ContainerPair) -> bool:
    """Are both nodes as the fixture `lab` makes them?"""
    command = f"grep -q '{HANDLER}' /etc/drbd.d/web1.res && ! grep Primary $KC_PROC_DRBD"
    return (all(pair.nodes[node].process and not pair.run(node, command, check=False).returncode for node in NODES)
            and connected(pair))


def connected(pair: ContainerPair) -> bool:
    """Are all disks in sync, in the eyes of both nodes?"""
    texts = [pair.run(node, "cat $KC_PROC_DRBD").stdout for node in NODES]
    return all(text.count("cs:Connected") == text.count("UpToDate/UpToDate") == len(VMS) for text in texts)


def healthy(pair: ContainerPair) -> bool:
    """Does each guest run at home, is each node ready to lose the other, and do both say that all is well?"""
    well = "kc-status -q" + "".join(f" && test -e /run/kisscluster/even/{vm}" for vm in VMS)
    on = all(pair.nodes[node].process for node in NODES)
    return (on and all(pair.counter(node, vm) >= pair.acknowledged(vm) for node in NODES for vm in VMS)
            and all(runs(pair, vm, VMS[vm].home) for vm in VMS) and connected(pair)
            and all(pair.run(node, well, check=False).returncode == 0 for node in NODES))


def runs(pair: ContainerPair, vm: str, node: str) -> bool:
    """Does a guest print its dots there, and only there?"""
    recent = pair.dots(vm).after(time.monotonic() - 1)
    return bool(recent) and all(dot.node == node for dot in recent)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    """Show what both nodes said when a test failed."""
    report: pytest.TestReport = (yield).get_result()
    if report.failed:
        for pair in _pairs:
            for node in NODES:
                report.sections.append((f"story of {node}", pair.story(node)))
