"""State files: one fact a file, one line, replaced as a whole, mtime is when the fact last changed."""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kisscluster.base.exits import Exit, Failure

LONGEST = 4096
VM_NAME = re.compile(r"[a-z][a-z0-9_]{0,14}\Z")
RESERVED = frozenset({"all", "home", "none", "hold"})


def is_vm_name(name: str) -> bool:
    """May a VM be called so (DESIGN 2: it is also a unit, a DRBD resource, a file, part of an interface)?"""
    return bool(VM_NAME.match(name)) and name not in RESERVED


class State:
    """A directory of state files."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def read(self, name: str) -> str | None:
        """The fact's line without its end, or None where there is no such fact; raises OSError when unreadable."""
        try:
            fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return os.read(fd, LONGEST).decode("ascii", "replace").split("\n", 1)[0].strip()
        finally:
            os.close(fd)

    def has(self, name: str) -> bool:
        """Is there such a fact? Raises OSError where that cannot be told: an unreadable mark is not an absent one."""
        try:
            os.lstat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def names(self, folder: str) -> list[str]:
        """Names of the facts in a folder, sorted, without temporary dot-files."""
        try:
            found = os.listdir(self.path(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if not name.startswith("."))

    def age(self, name: str) -> float | None:
        """Seconds since the fact changed, or None; a clock that was set back counts as no time at all."""
        try:
            return max(0.0, time.time() - os.stat(self.path(name)).st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, text: str, durable: bool = False) -> bool:
        """Make the fact so; True when it was not so before. `durable`: synced to disk before this returns."""
        if self.read(name) == text:
            return False
        path = self.path(name)
        folder, base = os.path.split(path)
        temporary = f"{folder}/.{base}.{os.getpid()}"
        try:
            self._put(temporary, text, durable)
            os.rename(temporary, path)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if durable:
            self._sync(folder)
        return True

    def remove(self, name: str, durable: bool = False) -> bool:
        """Make the fact absent; True when it was there."""
        try:
            os.unlink(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        if durable:
            self._sync(os.path.dirname(self.path(name)))
        return True

    def flag(self, name: str) -> None:
        """Leave an empty flag; where it is already up, nothing is written."""
        with suppress(FileExistsError):
            os.close(self._made(self.path(name), os.O_WRONLY | os.O_EXCL))

    def locked(self, name: str) -> bool:
        """Does somebody hold this lock now?"""
        try:
            fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)

    @contextmanager
    def lock(self, name: str, patience: float = 0.0) -> Iterator[None]:
        """Be the one actor, waiting for it at most `patience` seconds; else Failure AGAIN."""
        path = self.path(name)
        fd = self._made(path, os.O_RDWR)
        try:
            _acquire(fd, path, patience)
            yield
        finally:
            os.close(fd)

    @staticmethod
    def _made(path: str, flags: int) -> int:
        """The open file, made where it is missing, and its folder too."""
        flags |= os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, flags, 0o644)

    def _put(self, path: str, text: str, durable: bool) -> None:
        fd = self._made(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, text.encode("ascii", "replace") + b"\n")
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)

    @staticmethod
    def _sync(folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _acquire(fd: int, path: str, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise Failure(Exit.AGAIN, f"{path}: held by another command, try again") from None
            # flock has no timeout; a blocking one could outlive the caller's deadline
            time.sleep(0.05)
