"""Keep all mounts and named namespaces of a laboratory private to its process, so that they die with it."""

from __future__ import annotations

import atexit
import ctypes
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.lab.say import LabError

CLONE_NEWNS = 0x00020000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_entered: list[int] = []
_undo: list[Callable[[], None]] = []
_lock = threading.Lock()
_launchers: list[threading.Thread] = []
_to_launch: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()


def enter() -> None:
    """Give this process mounts of its own, once: what is mounted later vanishes with it, even by SIGKILL.

    Call it from the main thread before threads are started: a thread keeps the mounts of its creator.
    """
    if os.getpid() in _entered:
        return
    if os.geteuid() != 0:
        raise LabError("a laboratory needs root")
    if _libc.unshare(CLONE_NEWNS):
        raise LabError(f"cannot get a mount namespace: {os.strerror(ctypes.get_errno())}")
    _mount("--make-rprivate", "/")
    for directory in ("/run/netns", "/run/systemd/nspawn"):
        Path(directory).mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "lab", directory)
    _entered.append(os.getpid())
    atexit.register(undo_all)
    # as ^C, which a shell has its background jobs ignore: to pytest SystemExit is one failed test, and on to the next
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def on_exit(undo: Callable[[], None]) -> None:
    """Have something undone at exit, the last first, unless it was forgotten before."""
    _undo.append(undo)


def forget(undo: Callable[[], None]) -> None:
    """It has been undone already."""
    if undo in _undo:
        _undo.remove(undo)


def undo_all() -> None:
    """Undo what is left."""
    while _undo:
        _undo.pop()()


def die_with_parent() -> None:
    """For preexec_fn: the child gets SIGKILL when the *thread* that started it ends in whatever way."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        os._exit(1)


def spawn(command: Sequence[str], log: IO[bytes], before: Callable[[], None] = lambda: None,
          env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that dies with this process; before() runs in it just before the command."""
    def prepare() -> None:
        die_with_parent()
        before()

    def start() -> None:
        started.put(subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, preexec_fn=prepare))

    started: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    with _lock:
        if not _launchers or not _launchers[0].is_alive():
            _launchers[:] = [threading.Thread(target=_launch, daemon=True)]
            _launchers[0].start()
    _to_launch.put(start)
    return started.get(timeout=10)


def _launch() -> None:
    """A thread of its own, since children die with the thread that started them, and this one never ends."""
    while True:
        _to_launch.get()()
