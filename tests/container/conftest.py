"""Fixtures of the container pair: `lab` is two bare nodes, `cluster` a healthy KISScluster on them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest

from tests.lab import package, setup
from tests.lab.container import DISKS, ContainerPair
from tests.lab.pair import NODES, VMS, wait

SETTLE = 3
HANDLER = ". /etc/fence-answer"
_stock: list[Stock] = []


class Stock:
    """The pair in use, and another one that is made ready meanwhile: a pair needs seconds until it is healthy."""

    def __init__(self) -> None:
        self.pair = ContainerPair(package.deb())
        self._spare: ContainerPair | None = None
        self._maker: Thread | None = None

    def healthy(self) -> ContainerPair:
        """A healthy pair: the one in use if it still is, or else the other."""
        if not healthy(self.pair):
            if self._maker and self._spare:
                self._maker.join()
                self.pair, self._spare = self._spare, self.pair
            if not healthy(self.pair):
                make_healthy(self.pair)
            self._maker = Thread(target=self._make_spare)
            self._maker.start()
        return self.pair

    def _make_spare(self) -> None:
        # what fails here fails again, and loudly, when the pair is wanted
        with suppress(Exception):
            self._spare = self._spare or ContainerPair(package.deb())
            make_healthy(self._spare)

    def close(self) -> None:
        """Both off."""
        if self._maker:
            self._maker.join()
        for pair in (self.pair, self._spare):
            if pair:
                pair.close()


@pytest.fixture(scope="session")
def stock() -> Iterator[Stock]:
    """The pairs of this session."""
    stock = Stock()
    _stock.append(stock)
    yield stock
    _stock.clear()
    stock.close()


@pytest.fixture
def lab(stock: Stock) -> ContainerPair:
    """Two nodes as from the installation, their disks up; KISScluster is not started."""
    pair = stock.pair
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
def cluster(stock: Stock) -> ContainerPair:
    """A pair that is well, its guests at home; one that the test before left so is taken over."""
    return stock.healthy()


def make_healthy(pair: ContainerPair) -> None:
    """From the installation to guests that run at home."""
    pair.renew()
    setup.write_config(pair, DISKS, settle=SETTLE)
    setup.start(pair)
    wait(lambda: healthy(pair), 25, "the pair is healthy", 0.2)


def idle(pair: ContainerPair) -> bool:
    """Are both nodes as the fixture `lab` makes them?"""
    command = f"grep -q '{HANDLER}' /etc/drbd.d/web1.res && ! pgrep qemu && ! grep Primary $KC_PROC_DRBD"
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
    return (on and all(runs(pair, vm, VMS[vm].home) for vm in VMS) and connected(pair)
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
        for stock in _stock:
            for node in NODES:
                report.sections.append((f"story of {node}", stock.pair.story(node)))
