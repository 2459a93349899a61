"""A fresh node for each test."""

from pathlib import Path

import pytest

from tests.cli.node import FakeNode


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)
