"""A pair in the middle of its upgrade: node1 is Debian 13, node2 still Debian 12, with its Python, systemd and QEMU."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.container import conftest
from tests.container.conftest import make_healthy, runs
from tests.container.test_pair import CALM
from tests.lab import package
from tests.lab.container import ContainerPair
from tests.lab.guests import mark, marked
from tests.lab.pair import VMS, other

VERSIONS = {"node1": ("13", "10.0"), "node2": ("12", "7.2")}
PATIENCE = 30.0  # seconds


@pytest.fixture(scope="module")
def mixed() -> Iterator[ContainerPair]:
    pair = ContainerPair(package.deb(), suites={"node2": "bookworm"})
    conftest._pairs.append(pair)
    try:
        make_healthy(pair)
        yield pair
    finally:
        conftest._pairs.remove(pair)
        pair.close()


def test_they_are_what_they_are_said_to_be(mixed: ContainerPair) -> None:
    for node, (debian, qemu) in VERSIONS.items():
        mixed.run(node, f". /etc/os-release && test $VERSION_ID = {debian}")
        assert f"version {qemu}" in mixed.run(node, "qemu-system-x86_64 -version").stdout


def move(pair: ContainerPair, vm: str, there: str) -> None:
    """A node that is just back takes nothing yet."""
    here = other(there)
    command = f"kc-migrate {vm}"
    pair.wait(lambda: pair.run(here, command, PATIENCE, check=False).returncode == 0, PATIENCE, f"{here}: {command}")
    pair.wait(lambda: runs(pair, vm, there), PATIENCE, f"{vm} runs on {there}")


@pytest.mark.parametrize("vm", VMS)
def test_a_guest_moves_between_them(mixed: ContainerPair, vm: str) -> None:
    """From the old QEMU to the new one and from the new to the old; it does not boot."""
    home, began = VMS[vm].home, time.monotonic()
    mark(mixed, home, vm)
    move(mixed, vm, other(home))
    move(mixed, vm, home)
    assert marked(mixed, home, vm), "it has booted"
    assert mixed.dots(vm).longest_pause(began) < CALM


@pytest.mark.parametrize("vm", VMS)
def test_its_home_dies(mixed: ContainerPair, vm: str) -> None:
    home, there = VMS[vm].home, other(VMS[vm].home)
    mixed.power_off(home)
    mixed.wait(lambda: runs(mixed, vm, there), PATIENCE, f"{vm} runs on {there}")
    mixed.power_on(home)
    move(mixed, vm, home)
    mixed.wait(lambda: conftest.healthy(mixed), PATIENCE, "all is well")
