"""Build slow things once: a cache in $KC_LAB_DIR keyed by a digest of what they are made of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.say import say

CHECKOUT = Path(__file__).resolve().parents[2]


def lab_dir() -> Path:
    """Where everything built is kept."""
    directory = Path(os.environ.get("KC_LAB_DIR") or CHECKOUT / "build" / "lab").absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def digest(*parts: str | bytes) -> str:
    """A short name for exactly these inputs."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:16]


def digest_files(base: Path, files: Iterable[Path]) -> str:
    """A short name for the names, modes and contents of files below base."""
    parts: list[str | bytes] = []
    for file in sorted(files):
        if file.is_symlink():
            parts += [str(file.relative_to(base)), "link", os.readlink(file)]
        elif file.is_file():
            parts += [str(file.relative_to(base)), str(os.access(file, os.X_OK)), file.read_bytes()]
    return digest(*parts)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of that name; a second builder waits for the first."""
    with (lab_dir() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The directory KIND-KEY; if it is missing, build(empty directory) makes it, whole or not at all."""
    final = lab_dir() / f"{kind}-{key}"
    if final.exists():
        return final
    with locked(kind):
        if not final.exists():
            _build(kind, final, build)
    return final


def _build(kind: str, final: Path, build: Callable[[Path], None]) -> None:
    started = time.monotonic()
    work = final.with_name(final.name + ".tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    say(f"building {kind} (once; kept in {final})")
    build(work)
    work.rename(final)
    say(f"built {kind} in {time.monotonic() - started:.0f} s")
