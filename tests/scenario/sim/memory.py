"""State files in memory: a simulated machine's /run/kisscluster and /var/lib/kisscluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kisscluster.base.exits import Exit, Failure
from kisscluster.base.state import State

Moment = Callable[[], float]


class Memory(State):
    """The interface of base/state.py's State; another process may come between after a look and before a change."""

    def __init__(self, root: str, clock: Moment, sleep: Callable[[float], None],
                 changed: Callable[[str], None]) -> None:
        super().__init__(root)
        self.folders: dict[str, dict[str, tuple[str, float]]] = {}
        self.clock, self.pause_for, self.changed = clock, sleep, changed
        self.locks: dict[str, object] = {}
        self.full = False
        self.pause: Callable[[str], None] = lambda name: None
        self.flagged: Callable[[str], None] = lambda name: None
        self.sync_seconds = 0.0

    def read(self, name: str) -> str | None:
        found = self.peek(name)
        self.pause(name)
        return found

    def peek(self, name: str) -> str | None:
        """A look from outside, in no time."""
        folder, _, base = name.rpartition("/")
        found = self.folders.get(folder, {}).get(base)
        return found[0] if found else None

    def has(self, name: str) -> bool:
        found = self.peek(name) is not None
        self.pause(name)
        return found

    def names(self, folder: str) -> list[str]:
        return sorted(self.folders.get(folder, {}))

    def age(self, name: str) -> float | None:
        folder, _, base = name.rpartition("/")
        found = self.folders.get(folder, {}).get(base)
        return max(0.0, self.clock() - found[1]) if found else None

    def write(self, name: str, text: str, durable: bool = False) -> bool:
        if self.peek(name) == text:
            return False
        self._room(name)
        self.pause(name)
        self._set(name, text)
        if durable and self.sync_seconds:
            self.pause_for(self.sync_seconds)
        return True

    def remove(self, name: str, durable: bool = False) -> bool:
        self.pause(name)
        folder, _, base = name.rpartition("/")
        if self.folders.get(folder, {}).pop(base, None) is None:
            return False
        self.changed(name)
        if durable and self.sync_seconds:
            self.pause_for(self.sync_seconds)
        return True

    def flag(self, name: str) -> None:
        """In one step, as with O_EXCL."""
        self.pause(name)
        if self.peek(name) is None:
            self._room(name)
            self._set(name, "")
        self.flagged(name)

    def _room(self, name: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device", self.path(name))

    def _set(self, name: str, text: str) -> None:
        folder, _, base = name.rpartition("/")
        self.folders.setdefault(folder, {})[base] = (text, self.clock())
        self.changed(name)

    def locked(self, name: str) -> bool:
        return name in self.locks

    @contextmanager
    def lock(self, name: str, patience: float = 0.0) -> Iterator[None]:
        end = self.clock() + patience
        while name in self.locks:
            if self.clock() >= end:
                raise Failure(Exit.AGAIN, f"{self.path(name)}: held by another command, try again")
            self.pause_for(0.05)
        self.locks[name] = self
        try:
            yield
        finally:
            self.locks.pop(name, None)

    def everything(self) -> dict[str, str]:
        """All facts, for a look from outside."""
        return {f"{folder}/{name}".lstrip("/"): entry[0]
                for folder, files in self.folders.items() for name, entry in files.items()}
