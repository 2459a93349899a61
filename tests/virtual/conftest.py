"""Fixtures of the virtual pair: `pair` is a healthy KISScluster on two machines, restored for each test."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import setup, virtual
from tests.lab.pair import VMS
from tests.lab.virtual import VirtualPair

_pairs: list[VirtualPair] = []


@pytest.fixture(scope="session")
def snapshot() -> Path:
    """A healthy pair, frozen."""
    return virtual.ready(**setup.SLOW)


@pytest.fixture
def pair(snapshot: Path) -> Iterator[VirtualPair]:
    """A healthy pair whose guests count at home."""
    nodes = VirtualPair(snapshot)
    _pairs.append(nodes)
    nodes.wait(lambda: all(virtual.counts(nodes, vm, VMS[vm].home) for vm in VMS), 20, "the guests count again")
    yield nodes
    _pairs.clear()
    nodes.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    """Show what both nodes say when a test failed."""
    report: pytest.TestReport = (yield).get_result()
    if report.failed:
        for nodes in _pairs:
            report.sections.append(("both nodes", virtual.story(nodes)))
