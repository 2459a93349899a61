"""Imports that a command does not pay for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without(name: str) -> Iterator[None]:
    """What is imported meanwhile may import `name` from the module `name` and gets None; nobody else sees that."""
    if name in sys.modules:
        yield
        return
    empty = ModuleType(name)
    setattr(empty, name, None)
    sys.modules[name] = empty
    try:
        yield
    finally:
        del sys.modules[name]
