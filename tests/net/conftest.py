"""One network for all tests of this folder, two fresh daemons for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.net import Net
from tests.net.hearts import Hearts


@pytest.fixture(scope="session")
def net() -> Iterator[Net]:
    net = Net()
    for node in ("node1", "node2"):
        net.plug_veth(node)
    yield net
    net.close()


@pytest.fixture
def hearts(net: Net, tmp_path: Path) -> Iterator[Hearts]:
    pair = Hearts(tmp_path, net)
    yield pair
    pair.close()
    net.heal()
