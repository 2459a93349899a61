"""The virtual pair, a healthy KISScluster on two machines: restored where the test before has not left it so."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import setup, virtual
from tests.lab.pair import NODES, wait
from tests.lab.virtual import VirtualPair

CONFIG = "cat /etc/kisscluster/kisscluster.conf /etc/kisscluster/vm/*"
PATIENCE = 5.0  # seconds; to restore one takes as long


class Kept:
    """The pair that the test before left, and the configuration that it had at first."""

    def __init__(self, snapshot: Path) -> None:
        self.snapshot = snapshot
        self.pair: VirtualPair | None = None
        self.config: list[str] = []
        self.spoiled = False

    def take(self) -> VirtualPair:
        """A pair that is well, its guests at home."""
        if self.pair and (self.spoiled or not self._well(self.pair)):
            self.close()
        if not self.pair:
            self.pair = virtual.restored(self.snapshot)
            self.config, self.spoiled = self.pair.both(CONFIG), False
        return self.pair

    def _well(self, pair: VirtualPair) -> bool:
        if not all(pair.is_on(node) for node in NODES) or pair.both(CONFIG) != self.config:
            return False
        try:
            wait(lambda: virtual.settled(pair), PATIENCE, "it is settled", 0.5)
        except AssertionError:
            return False
        return True

    def close(self) -> None:
        """Leave nothing behind."""
        if self.pair:
            self.pair.close()
        self.pair = None


@pytest.fixture(scope="session")
def kept() -> Iterator[Kept]:
    """Begins with a healthy pair, frozen."""
    keeper = Kept(virtual.ready(**setup.SLOW))
    yield keeper
    keeper.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show what both nodes say when a test failed."""
    report: pytest.TestReport = (yield).get_result()
    keeper = getattr(item, "funcargs", {}).get("kept")
    if report.failed and keeper and keeper.pair:
        keeper.spoiled = True
        report.sections.append(("both nodes", virtual.story(keeper.pair)))
